//! The account of a ring: what became of every packet that the filter let through.

use super::OnLink;

/// Where the packets of one ring went. After the ring has been closed
/// `received == delivered + dropped + unreadable`; while it runs the difference is what still lies in the ring.
///
/// Packets that the filter turned away are not counted anywhere by the kernel. The difference to what the link itself has
/// counted tells them, where both mean the same by a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Packets that the filter let through, those included for which there was no room (`tp_packets`).
    pub received: u64,
    /// Packets for which the ring had no room: the reader was too slow (`tp_drops`).
    pub dropped: u64,
    /// How often the ring was full (`tp_freeze_q_cnt`).
    pub full: u64,
    /// Packets handed out.
    pub delivered: u64,
    /// The bytes of them that were kept.
    pub bytes: u64,
    /// Packets handed out of which the snaplen cut something off.
    pub truncated: u64,
    /// Packets handed out that were larger than a block of the ring and lost their end to it.
    pub clamped: u64,
    /// Packets handed out after a later one of another ring: order was given up to make room, or the clock went back.
    pub late: u64,
    /// Packets in blocks that made no sense: a damaged kernel.
    pub unreadable: u64,
    /// What the link itself counted, from before the first packet until after the last; `None` as long as it captures, and
    /// if the link was gone before the ring was stopped.
    pub on_link: Option<OnLink>,
}

impl Ledger {
    /// Packets that were let through and are not (yet) handed out.
    pub fn pending(&self) -> u64 {
        self.received.saturating_sub(self.delivered + self.dropped + self.unreadable)
    }

    /// Adds another ring's account.
    pub fn add(&mut self, other: &Ledger) {
        self.received += other.received;
        self.dropped += other.dropped;
        self.full += other.full;
        self.delivered += other.delivered;
        self.bytes += other.bytes;
        self.truncated += other.truncated;
        self.clamped += other.clamped;
        self.late += other.late;
        self.unreadable += other.unreadable;
        self.on_link = self.on_link.zip(other.on_link).map(|(one, other)| OnLink {
            packets: one.packets + other.packets,
            dropped: one.dropped + other.dropped,
        });
    }
}
