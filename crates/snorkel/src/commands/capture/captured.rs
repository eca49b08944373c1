//! A link of a capture, and the account of it.

use std::collections::BTreeMap;

use snorkel_capture::file::Statistics;
use snorkel_capture::filter::Filter;
use snorkel_capture::ring::{Ledger, RingId};
use snorkel_capture::{Packet, Timestamp};

use super::spots::Spot;

/// A link that is (or was) captured.
pub(crate) struct Captured {
    /// Which.
    pub(crate) spot: Spot,
    /// From when on.
    pub(crate) since: Timestamp,
    /// Until when, if it was closed.
    pub(crate) until: Option<Timestamp>,
    /// Memory of its ring, in bytes.
    pub(crate) ring: usize,
    /// The mask of its IPv4 network, if it has one.
    pub(crate) netmask: Option<u32>,
    /// A filter that the kernel could not run.
    pub(crate) filter: Option<Filter>,
    /// Its account: the last one that was read.
    pub(crate) ledger: Ledger,
    /// Packets that the filter turned away here.
    pub(crate) turned_away: u64,
    /// Packets that came after the last one that was wanted.
    pub(crate) surplus: u64,
    /// The bytes of those two.
    pub(crate) left_out: u64,
}

impl Captured {
    /// Packets that the filter let through, those included that were lost.
    pub(crate) fn matched(&self) -> u64 {
        self.ledger.received.saturating_sub(self.turned_away)
    }

    /// Packets that were captured.
    pub(crate) fn taken(&self) -> u64 {
        self.ledger.delivered.saturating_sub(self.turned_away + self.surplus)
    }

    /// Their bytes on the link.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.ledger.bytes.saturating_sub(self.left_out)
    }

    /// For a file that ends at this moment.
    pub(super) fn statistics(&self, end: Timestamp) -> Statistics {
        Statistics {
            // What is told is never older than what it tells of.
            time: self.until.map_or(end, |until| until.max(end)),
            start: Some(self.since),
            end: Some(self.until.unwrap_or(end)),
            // What the filter turned away only the link has counted.
            received: match self.spot.interface.filter {
                None => Some(self.ledger.received),
                Some(_) => self.ledger.on_link.map(|on_link| on_link.packets),
            },
            dropped: Some(self.ledger.dropped),
            filter_accepted: Some(self.matched()),
            os_dropped: None,
            delivered: Some(self.taken()),
            comments: Vec::new(),
        }
    }
}

/// Those that the filters let through, where the kernel could not run them; `None`: all.
pub(super) fn let_through<'a>(
    packets: &[Packet<'a>],
    captured: &mut BTreeMap<RingId, Captured>,
) -> Option<Vec<Packet<'a>>> {
    if captured.values().all(|captured| captured.filter.is_none()) {
        return None;
    }
    let mut fits = |packet: &Packet<'a>| {
        let Some(captured) = captured.get_mut(&packet.interface) else { return true };
        let fits = captured.filter.as_ref().is_none_or(|filter| filter.matches(packet));
        if !fits {
            captured.turned_away += 1;
            captured.left_out += u64::from(packet.original_length);
        }
        fits
    };
    Some(packets.iter().copied().filter(|packet| fits(packet)).collect())
}

/// The time of day.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
