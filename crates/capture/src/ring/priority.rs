//! The reader's place in the queue for the processor.
//!
//! On a machine whose processors are all busy a packet is lost because the reader does not come to run before the ring is
//! full, not because reading took long. With the highest niceness (setpriority(2)) it runs when there is something to
//! read. The price is paid by those it takes the time from, which may be the very processes whose packets it captures: where
//! there are too few processors, they become slower instead of packets getting lost. That is to be said to the user, and
//! there must be a way not to do it.

use rustix::process::{getpriority_process, setpriority_process};

use super::{Error, Result};

/// The highest there is.
const FIRST: i32 = -20;

/// Lets the calling thread run before all others but those of the real-time classes; needs CAP_SYS_NICE. Threads that it
/// makes from then on inherit it. Returns its niceness before, -20 to 19.
pub fn run_first() -> Result<i32> {
    let error = |e| Error::os("raise the reader's priority (CAP_SYS_NICE is needed)", e);
    let before = getpriority_process(None).map_err(error)?;
    setpriority_process(None, FIRST).map_err(error)?;
    Ok(before)
}
