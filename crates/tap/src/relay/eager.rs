//! How the relay waits: asleep as a rule, and awake for a moment where two sides take turns.
//!
//! To be woken takes some ten microseconds, more on a virtual machine, and that twice for each question and its answer. So
//! where one side's word has just been followed by the other's, the relay looks again a few times before it sleeps, as
//! a kernel does before it halts a processor (Documentation/virt/guest-halt-polling.rst). Where that is in vain it sleeps at
//! once, for twice as many waits each time. It does not yield between two looks: newer kernels have who yields forfeit a
//! whole slice of time, some 0.7 ms (`yield_task_fair`, kernel/sched/fair.c), for which the next word may then have to
//! wait. Where there is but one processor it always sleeps.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::connection::Side;
use super::slab::Key;
use super::token::Token;

/// How long it stays awake.
const AWAKE: Duration = Duration::from_micros(25);
/// What comes within this may come within the other if nobody has to be woken for it.
const SOON: Duration = Duration::from_micros(60);
/// The most waits that are slept through at once after vain ones, as a power of two.
const MOST: u32 = 10;
const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// How a wait went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wait {
    /// What came, if it was one word of one side.
    word: Option<(Key, Side)>,
    /// It came soon.
    soon: bool,
    /// Whether it came while the relay was awake; none: it was not.
    caught: Option<bool>,
}

/// Whether it pays to stay awake.
#[derive(Debug)]
pub(super) struct Eagerness {
    /// There is another processor for those who are to speak.
    possible: bool,
    awake: bool,
    /// The word before.
    last: Option<(Key, Side)>,
    /// How often in a row it was in vain.
    vain: u32,
    /// How many waits are slept through yet.
    rest: u32,
}

impl Default for Eagerness {
    fn default() -> Eagerness {
        let possible = std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
        Eagerness { possible, awake: false, last: None, vain: 0, rest: 0 }
    }
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
        // Who has something to do by then does not wait for others.
        let lingers = self.awake && timeout.is_none_or(|time| time.tv_sec > 0 || time.tv_nsec > 1_000_000);
        if lingers {
            while events.is_empty() && begun.elapsed() < AWAKE {
                look(epoll, events, Some(&AT_ONCE))?;
                if events.is_empty() {
                    std::hint::spin_loop();
                }
            }
        }
        let caught = lingers.then_some(!events.is_empty());
        if events.is_empty() {
            look(epoll, events, timeout)?;
        }
        let word = match events.as_slice() {
            [one] => match Token::read(one.data.u64()) {
                Token::Socket(key, side) => Some((key, side)),
                _ => None,
            },
            _ => None,
        };
        self.learn(Wait { word, soon: begun.elapsed() < SOON, caught });
        Ok(())
    }

    fn learn(&mut self, wait: Wait) {
        match wait.caught {
            Some(true) => self.vain = 0,
            Some(false) => {
                self.vain = (self.vain + 1).min(MOST);
                self.rest = 1 << self.vain;
            }
            None => self.rest = self.rest.saturating_sub(1),
        }
        let takes_turns = match (self.last, wait.word) {
            (Some((before, one)), Some((now, other))) => before == now && one != other,
            _ => false,
        };
        self.last = wait.word;
        self.awake = self.possible && takes_turns && wait.soon && self.rest == 0;
    }
}

fn look(epoll: BorrowedFd<'_>, events: &mut Vec<epoll::Event>, timeout: Option<&Timespec>) -> io::Result<()> {
    match epoll::wait(epoll, spare_capacity(events), timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Key = Key { place: 1, generation: 0 };
    const OTHER: Key = Key { place: 2, generation: 0 };

    fn able() -> Eagerness {
        Eagerness { possible: true, ..Eagerness::default() }
    }

    fn word(key: Key, side: Side) -> Wait {
        Wait { word: Some((key, side)), soon: true, caught: None }
    }

    #[test]
    fn only_sides_of_one_connection_that_take_turns_keep_it_awake() {
        for (before, now, awake) in [
            (word(ONE, Side::Client), word(ONE, Side::Server), true),
            (word(ONE, Side::Server), word(ONE, Side::Client), true),
            (word(ONE, Side::Client), word(ONE, Side::Client), false),
            (word(ONE, Side::Client), word(OTHER, Side::Server), false),
            (word(ONE, Side::Client), Wait { soon: false, ..word(ONE, Side::Server) }, false),
            (Wait { word: None, ..word(ONE, Side::Client) }, word(ONE, Side::Server), false),
        ] {
            let mut eagerness = able();
            eagerness.learn(before);
            assert!(!eagerness.awake);
            eagerness.learn(now);
            assert_eq!(eagerness.awake, awake, "{before:?} {now:?}");
        }
    }

    #[test]
    fn where_it_is_in_vain_it_is_tried_less_and_less() {
        let mut eagerness = able();
        let mut tried = 0;
        for round in 0..10_000 {
            let side = if round % 2 == 0 { Side::Client } else { Side::Server };
            let caught = eagerness.awake.then_some(false);
            tried += u32::from(eagerness.awake);
            eagerness.learn(Wait { caught, ..word(ONE, side) });
        }
        assert!((MOST..2 * MOST).contains(&tried), "{tried} times");
        // And what is caught makes up for it.
        while !eagerness.awake {
            let side = if eagerness.last == Some((ONE, Side::Client)) { Side::Server } else { Side::Client };
            eagerness.learn(word(ONE, side));
        }
        for round in 0..100 {
            assert!(eagerness.awake);
            let side = if eagerness.last == Some((ONE, Side::Client)) { Side::Server } else { Side::Client };
            eagerness.learn(Wait { caught: Some(true), ..word(ONE, side) });
            assert_eq!(eagerness.vain, 0, "{round}");
        }
    }

    #[test]
    fn on_a_single_processor_it_sleeps() {
        let mut eagerness = Eagerness { possible: false, ..able() };
        for side in [Side::Client, Side::Server, Side::Client] {
            eagerness.learn(word(ONE, side));
            assert!(!eagerness.awake);
        }
    }
}
