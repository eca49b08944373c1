//! What a wire has counted, shared between the thread that counts and those that look.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// Packets and bytes of a wire since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Packets that went on.
    pub sent: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets that did not go on: lost by chance, or for want of room.
    pub dropped: u64,
    /// Packets that wait.
    pub waiting: u64,
    /// What only snorkel's own scheduler tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Detail>,
}

/// The counts of snorkel's own scheduler.
///
/// `arrived + duplicated = sent + lost + no_room + refused + waiting`, whenever nothing is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// Packets that came into the wire.
    pub arrived: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped because the queue, the store or the ring was full.
    pub no_room: u64,
    /// Second copies made.
    pub duplicated: u64,
    /// Packets with a turned bit.
    pub corrupted: u64,
    /// Packets that overtook others.
    pub reordered: u64,
    /// Packets that the link would not send; for a wire that answers, those that have no answer.
    pub refused: u64,
}

/// The counts as they are shared: written by one thread, read by any.
#[derive(Debug, Default)]
pub(super) struct Shared([AtomicU64; 10]);

impl Shared {
    pub(super) fn write(&self, counts: &Counts) {
        let detail = counts.detail.unwrap_or_default();
        let all = [
            counts.sent,
            counts.bytes,
            counts.waiting,
            detail.arrived,
            detail.lost,
            detail.no_room,
            detail.duplicated,
            detail.corrupted,
            detail.reordered,
            detail.refused,
        ];
        for (shared, count) in self.0.iter().zip(all) {
            shared.store(count, Ordering::Relaxed);
        }
    }

    pub(super) fn read(&self) -> Counts {
        let all: [u64; 10] = std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed));
        let [sent, bytes, waiting, arrived, lost, no_room, duplicated, corrupted, reordered, refused] = all;
        let detail = Detail { arrived, lost, no_room, duplicated, corrupted, reordered, refused };
        Counts { sent, bytes, dropped: lost + no_room, waiting, detail: Some(detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let detail = Detail {
            arrived: 4,
            lost: 5,
            no_room: 6,
            duplicated: 7,
            corrupted: 8,
            reordered: 9,
            refused: 10,
        };
        let counts = Counts { sent: 1, bytes: 2, dropped: 11, waiting: 3, detail: Some(detail) };
        let shared = Shared::default();
        shared.write(&counts);
        assert_eq!(shared.read(), counts);
    }
}
