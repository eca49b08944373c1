//! What a link counts itself, beside what its ring gets: the difference is what a filter turned away, which the kernel
//! counts nowhere.
//!
//! The counters are read before the first packet can come into the ring and after the last (rtnetlink(7), through a
//! socket of the link's namespace, which takes no right): they may hold some packets more than the ring was offered,
//! never fewer.

use std::os::fd::OwnedFd;

use snorkel_rtnl::{IfIndex, LinkCounters, Socket};

/// What a link has counted while its ring was open.
///
/// What one packet is the link's driver says. A veth counts what it is handed, which is also what a ring gets: a
/// super-packet of segmentation offload is one. A network card counts what goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OnLink {
    /// Packets that it received and sent; of the loopback, where each is both, once.
    pub packets: u64,
    /// Packets that it threw away itself, both ways, damaged ones included.
    pub dropped: u64,
}

/// A link's counters, and what they were at the beginning.
#[derive(Debug)]
pub(super) struct Counters {
    socket: Socket,
    index: IfIndex,
    loopback: bool,
    begin: LinkCounters,
}

impl Counters {
    /// Begins to count on a link of the calling thread's namespace; `None` where the kernel does not tell.
    pub(super) fn begin(index: IfIndex, loopback: bool) -> Option<Counters> {
        let mut socket = Socket::open().ok()?;
        let begin = socket.counters(index).ok()??;
        Some(Counters { socket, index, loopback, begin })
    }

    /// What has been counted since; `None` if the link is gone.
    pub(super) fn since(&mut self) -> Option<OnLink> {
        let now = self.socket.counters(self.index).ok()??;
        let more = |of: fn(&LinkCounters) -> u64| of(&now).saturating_sub(of(&self.begin));
        let received = more(|all| all.received.packets);
        let sent = if self.loopback { 0 } else { more(|all| all.sent.packets) };
        let dropped = more(|all| all.received.dropped + all.received.errors)
            + more(|all| all.sent.dropped + all.sent.errors);
        Some(OnLink { packets: received + sent, dropped })
    }

    /// What another process needs to go on counting.
    pub(super) fn hand_over(self) -> (OwnedFd, LinkCounters) {
        (self.socket.into(), self.begin)
    }

    /// Goes on where another process left off.
    pub(super) fn adopt(
        socket: OwnedFd,
        begin: LinkCounters,
        index: IfIndex,
        loopback: bool,
    ) -> Option<Counters> {
        Some(Counters { socket: Socket::adopt(socket).ok()?, index, loopback, begin })
    }
}
