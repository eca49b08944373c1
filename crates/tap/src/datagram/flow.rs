//! One flow of datagrams: a client's address and port, and the place that it speaks to.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::decode;
use crate::event::{ConnectionId, Direction, End, Ends, Summary};

/// How long one goes on in which all that was asked is answered: a client that asks once more soon is the same flow.
const ANSWERED: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) id: ConnectionId,
    pub(super) ends: Ends,
    /// Towards the application, and its own address.
    pub(super) socket: OwnedFd,
    pub(super) own: SocketAddr,
    pub(super) begun: Instant,
    /// When the last datagram passed.
    pub(super) last: Instant,
    /// When it ends unless another one passes.
    pub(super) due: Instant,
    pub(super) first_byte: Option<Duration>,
    /// By [`Direction`].
    pub(super) bytes: [u64; 2],
    /// The client has spoken last, and waits.
    pub(super) waits: bool,
    pub(super) said: Option<decode::Datagrams>,
}

impl Flow {
    /// Counts a datagram that was passed on; how long the flow goes on after it.
    pub(super) fn passed(&mut self, direction: Direction, size: usize, idle: Duration) {
        let now = Instant::now();
        self.last = now;
        self.bytes[direction.index()] += size as u64;
        self.waits = direction == Direction::ToServer;
        if direction == Direction::ToClient && self.first_byte.is_none() {
            self.first_byte = Some(now - self.begun);
        }
        let done = self.said.as_ref().is_some_and(decode::Datagrams::is_done);
        self.due = now + if done { idle.min(ANSWERED) } else { idle };
    }

    pub(super) fn summary(&self, end: End) -> Summary {
        Summary { bytes: self.bytes, lasted: self.last - self.begun, first_byte: self.first_byte, end }
    }
}
