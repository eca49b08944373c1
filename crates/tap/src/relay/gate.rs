//! What stands between a relay and the world: where connections come from, and how the application is reached.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::net::getsockname;

use super::observer::tell;
use super::{Relay, now};
use crate::event::{ConnectionId, End, Ends, Summary, What, Word};

/// What a gate has to tell.
#[derive(Debug)]
pub enum Turn {
    /// A connection that came to nothing before the relay had it.
    Missed {
        /// Between whom.
        ends: Ends,
        /// When it was begun.
        begun: Instant,
        /// What became of it.
        end: End,
    },
    /// Something that the user must know.
    Warning(String),
}

/// The way to the application.
pub trait Gate {
    /// What the client of this socket, which a listener gave, wanted to reach.
    fn meant(&mut self, socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
        Ok(SocketAddr::try_from(getsockname(socket)?)?)
    }

    /// Begins a connection to what the client meant, without waiting for it: a non-blocking socket, and its own address.
    fn connect(&mut self, meant: &Ends) -> io::Result<(OwnedFd, SocketAddr)>;

    /// A connection whose own address was this is over.
    fn ended(&mut self, own: SocketAddr);

    /// The application did not take a connection to this address.
    fn refused(&mut self, server: SocketAddr);

    /// Leads new connections past the relay (it can take no more), or to it again.
    fn set_open(&mut self, open: bool);

    /// Looks at the world from time to time; when to do that again.
    fn look(&mut self) -> Option<Duration>;

    /// Takes the way back: from now on no new connection comes.
    fn close(&mut self);

    /// A descriptor that can be read when the gate has something to do of its own.
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Does that.
    fn turn(&mut self) -> Vec<Turn> {
        Vec::new()
    }
}

impl<G: Gate> Relay<G> {
    /// Lets the gate do what it has to do.
    pub(super) fn turn_gate(&mut self) {
        for turn in self.gate.turn() {
            match turn {
                Turn::Missed { ends, begun, end } => {
                    self.report.connections += 1;
                    let at = (ConnectionId(self.report.connections), ends);
                    if self.looks {
                        tell(at, now(), What::Opened, &mut self.teller);
                    }
                    let ended = Summary { bytes: [0; 2], lasted: begun.elapsed(), first_byte: None, end };
                    tell(at, now(), What::Ended(ended), &mut self.teller);
                }
                Turn::Warning(text) => self.teller.tell(Word::Warning(text)),
            }
        }
    }
}
