//! A reader of real time that works without a pause changes processors, before it is taken off one.
//!
//! The kernel leaves those that are not of real time 5 % of each processor's time (sched(7), `sched_rt_runtime_us`; the
//! fair server, kernel/sched/deadline.c, since 6.12), and if the reader does not leave it to them by itself, takes it in
//! one piece: 50 ms of a second, in which a fast stream fills the whole ring. Meanwhile the reader is not moved to
//! another processor, though it could run there. One that works on two processors in turn leaves each of them half of its
//! time, and is never taken off.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// So much work is done on one processor: so much that it does not matter that the next one's caches are cold, and so
/// little that there is no second of which it has worked 950 ms there.
const SHIFT: Duration = Duration::from_millis(300);

/// The shifts of the thread that made it.
#[derive(Debug)]
pub struct Shifts {
    /// What it had worked when it came to this processor.
    since: Duration,
}

impl Shifts {
    /// The first shift begins.
    pub fn begin() -> Shifts {
        Shifts { since: worked() }
    }

    /// Goes to another processor if the shift is over, and says whether it was. To be called often.
    pub fn keep(&mut self) -> bool {
        let worked = worked();
        let over = worked >= self.since + SHIFT;
        if over {
            self.since = worked;
            // Where there is no other, or none is allowed, it stays.
            let _ = change_processor();
        }
        over
    }
}

/// The processor time of this thread.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The kernel chooses which one it is: the one whose work is least urgent.
fn change_processor() -> rustix::io::Result<()> {
    // SAFETY: it takes nothing and gives a number.
    let Ok(here) = usize::try_from(unsafe { libc::sched_getcpu() }) else { return Ok(()) };
    let allowed = sched_getaffinity(None)?;
    if here >= CpuSet::MAX_CPU || allowed.count() < 2 {
        return Ok(());
    }
    let mut others = allowed;
    others.unset(here);
    sched_setaffinity(None, &others)?;
    // It is there now, and may be moved from there by whoever has a reason.
    sched_setaffinity(None, &allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where this thread runs.
    fn here() -> i32 {
        // SAFETY: it takes nothing and gives a number.
        unsafe { libc::sched_getcpu() }
    }

    #[test]
    fn a_shift_is_over_after_so_much_work_and_waiting_is_none() {
        let begin = worked();
        let mut shifts = Shifts::begin();
        // Not to wait for anything: it is the waiting itself that must not count.
        std::thread::sleep(SHIFT);
        assert!(!shifts.keep());
        while !shifts.keep() {}
        assert!(worked() >= begin + SHIFT);
        assert!(!shifts.keep(), "the next one has begun");
    }

    #[test]
    fn the_next_shift_is_elsewhere_and_the_reader_stays_free_to_be_moved() {
        crate::ring::run_first().expect("this test needs root");
        let allowed = sched_getaffinity(None).unwrap();
        let mut places = Vec::new();
        for _ in 0..10 {
            let before = here();
            change_processor().unwrap();
            places.push((before, here()));
        }
        assert!(sched_getaffinity(None).unwrap() == allowed);
        // Only another thread of real time could have moved it meanwhile, which is a rare thing.
        let moved = places.iter().filter(|(before, after)| before != after).count();
        assert!(if allowed.count() < 2 { moved == 0 } else { moved > 5 }, "{places:?}");
    }
}
