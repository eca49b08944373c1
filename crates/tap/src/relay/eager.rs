//! How the relay waits: asleep as a rule, and awake for a moment where two sides take turns.
//!
//! To be woken takes some ten microseconds, more on a virtual machine, and that twice for each question and its answer. So
//! where one side's word has just been followed by the other's, the relay looks again a few times before it sleeps, as
//! a kernel does before it halts a processor (Documentation/virt/guest-halt-polling.rst). Whoever else wants the processor
//! gets it between two looks. Where nothing follows soon it sleeps at once the next time.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::token::Token;

/// How long it stays awake.
const AWAKE: Duration = Duration::from_micros(25);
/// What comes within this may come within the other if nobody has to be woken for it.
const SOON: Duration = Duration::from_micros(60);

/// Whether it pays to stay awake.
#[derive(Debug, Default)]
pub(super) struct Eagerness {
    awake: bool,
}

impl Eagerness {
    /// Waits for events, as long as the timeout says; there may be none.
    pub(super) fn wait(
        &mut self,
        epoll: BorrowedFd<'_>,
        events: &mut Vec<epoll::Event>,
        timeout: Option<&Timespec>,
    ) -> io::Result<()> {
        let begun = Instant::now();
        events.clear();
        if self.awake {
            while events.is_empty() && begun.elapsed() < AWAKE {
                look(epoll, events, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
                if events.is_empty() {
                    std::thread::yield_now();
                }
            }
        }
        if events.is_empty() {
            look(epoll, events, timeout)?;
        }
        // One word of one side: where there is more to do nobody waits for a wake-up.
        let alone = match events.as_slice() {
            [one] => matches!(Token::read(one.data.u64()), Token::Socket(..)),
            _ => false,
        };
        self.awake = alone && begun.elapsed() < SOON;
        Ok(())
    }
}

fn look(epoll: BorrowedFd<'_>, events: &mut Vec<epoll::Event>, timeout: Option<&Timespec>) -> io::Result<()> {
    match epoll::wait(epoll, spare_capacity(events), timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
