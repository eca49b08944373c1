//! The two clocks of a wire: packets are stamped with the time of day, and due by one that never jumps.

use rustix::time::{ClockId, clock_gettime};

use crate::emulation::Moment;

/// Both clocks, read one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// `CLOCK_MONOTONIC`.
    pub(super) now: Moment,
    /// `CLOCK_REALTIME`, nanoseconds since the epoch.
    of_day: u64,
}

impl Clock {
    pub(super) fn read() -> Clock {
        // In this order: whoever is interrupted in between takes a packet for younger than it is, and sends it late. In
        // the other order it would leave before its time.
        let of_day = nanoseconds(ClockId::Realtime);
        Clock { now: Moment(nanoseconds(ClockId::Monotonic)), of_day }
    }

    /// When a packet came that was stamped so: not before `earliest`, which is what the packet before it says, and not in the
    /// future, should the time of day have been set meanwhile. One that came after the clocks were read has them read again,
    /// or it would be taken for older than it is.
    pub(super) fn arrival(&mut self, stamp: u64, earliest: Moment) -> Moment {
        if stamp > self.of_day {
            *self = Clock::read();
        }
        let age = self.of_day.saturating_sub(stamp);
        Moment(self.now.0.saturating_sub(age)).max(earliest).min(self.now)
    }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_an_age_and_never_out_of_order() {
        let mut clock = Clock { now: Moment(1000), of_day: 50_000 };
        assert_eq!(clock.arrival(49_900, Moment(0)), Moment(900));
        assert_eq!(clock.arrival(49_900, Moment(950)), Moment(950));
        assert_eq!(clock.arrival(0, Moment(0)), Moment(0));
    }

    #[test]
    fn what_came_after_the_clocks_were_read_is_no_older_than_it_is() {
        let mut clock = Clock::read();
        let before = nanoseconds(ClockId::Monotonic);
        let arrival = clock.arrival(nanoseconds(ClockId::Realtime), Moment(0));
        assert!(arrival >= Moment(before), "{arrival:?} is before {before}");
        assert!(arrival <= clock.now);
    }

    #[test]
    fn a_stamp_of_the_future_is_now() {
        let mut clock = Clock::read();
        // The time of day was set back.
        let stamp = nanoseconds(ClockId::Realtime) + 3_600_000_000_000;
        assert_eq!(clock.arrival(stamp, Moment(0)), clock.now);
    }
}
