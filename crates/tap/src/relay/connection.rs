//! One connection: two sockets and two directions.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::half::{Course, Half};
use super::observer::Observer;
use crate::event::{ConnectionId, Direction, End, Ends, Summary};
use crate::spoil;

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The direction in which this side speaks.
    pub(crate) fn speaks(self) -> Direction {
        match self {
            Side::Client => Direction::ToServer,
            Side::Server => Direction::ToClient,
        }
    }
}

/// A socket, and what is known of it since it was last tried.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// Its end, or an error, has been announced: to be read even if nothing more is.
    pub(crate) ending: bool,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd) -> Socket {
        Socket { fd, readable: false, writable: false, ending: false }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: ConnectionId,
    pub(crate) ends: Ends,
    /// The address that the application's side of it comes from.
    pub(crate) own: SocketAddr,
    pub(crate) begun: Instant,
    pub(crate) first_byte: Option<Duration>,
    /// By [`Side`].
    pub(crate) sockets: [Socket; 2],
    /// By [`Direction`].
    pub(crate) halves: [Half; 2],
    /// The application has taken the connection.
    pub(crate) connected: bool,
    /// It is in the queue of those that have more to do.
    pub(crate) queued: bool,
    pub(crate) observer: Option<Box<Observer>>,
    pub(crate) spoil: Option<Box<spoil::Course>>,
    /// The tap answers itself: nothing more is passed on to the application, and it ends once the answer is written.
    pub(crate) answered: Option<String>,
}

impl Connection {
    /// Both directions have ended.
    pub(crate) fn is_done(&self) -> bool {
        self.halves.iter().all(|half| half.course == Course::Done)
    }

    /// How many bytes that come next in a direction nobody looks at or holds back.
    pub(crate) fn blind(&self, direction: Direction) -> u64 {
        match (&self.observer, &self.spoil) {
            (None, None) => u64::MAX,
            (Some(observer), None) => observer.blind(direction),
            (_, Some(_)) => 0,
        }
    }

    pub(crate) fn summary(&self, end: End) -> Summary {
        Summary {
            bytes: [self.halves[0].passed, self.halves[1].passed],
            lasted: self.begun.elapsed(),
            first_byte: self.first_byte,
            end,
        }
    }

    /// How it ended, if this error of this side ends it.
    pub(crate) fn end_by(&self, side: Side, error: Errno) -> End {
        if side == Side::Server && !self.connected && !super::half::is_reset(error) {
            return End::Refused { error: std::io::Error::from(error).to_string() };
        }
        if super::half::is_reset(error) {
            return End::Reset { by: side.speaks() };
        }
        let who = if side == Side::Client { "client" } else { "application" };
        End::Failed { error: format!("{who}: {}", std::io::Error::from(error)) }
    }
}
