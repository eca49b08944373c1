//! The reader's place in the queue for the processor.
//!
//! On a machine whose processors are all busy a packet is lost because the reader does not come to run before the ring is
//! full, not because reading took long. In the lowest real-time priority (sched(7)) it runs when there is something to
//! read. The price is paid by those it takes the time from, which may be the very processes whose packets it captures: where
//! there are too few processors, they become slower instead of packets getting lost. That is to be said to the user, and
//! there must be a way not to do it. It is for readers that write packets away, not for such as do much with each.
//!
//! A high niceness instead gets as few packets lost, but weighs so much in the kernel's distribution of load that everybody
//! else is moved to the other processors, and all are slower for it. It is for where real time is not to be had.

use std::io;

use rustix::process::setpriority_process;

use super::{Error, Result};

/// How the reader's turn was brought forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// The lowest real-time priority.
    RealTime,
    /// The highest that is not real time.
    Nice,
}

/// Lets the calling thread run before all that are not of real time; needs CAP_SYS_NICE. Processes and threads that it
/// makes do not inherit it from real time; from niceness they do.
pub fn run_first() -> Result<Priority> {
    let parameters = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // By its number, since musl's function of this name only fails.
    // SAFETY: the kernel reads the parameters; 0 is the calling thread.
    let set = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if set == 0 {
        return Ok(Priority::RealTime);
    }
    let refused = io::Error::last_os_error();
    match setpriority_process(None, -20) {
        Ok(()) => Ok(Priority::Nice),
        Err(_) => Err(Error::os("raise the reader's priority (CAP_SYS_NICE is needed)", refused)),
    }
}
