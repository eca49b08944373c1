//! What a link has counted since it was made (`IFLA_STATS64`, `struct rtnl_link_stats64` of linux/if_link.h).

use serde::{Deserialize, Serialize};

/// The counters of a link, which never go back as long as it lives.
///
/// What one packet is differs with the driver. A veth counts what it is handed, so a super-packet of segmentation
/// offload is one; network cards count what goes over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// What came in.
    pub received: WayCounters,
    /// What went out.
    pub sent: WayCounters,
}

/// The counters of one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayCounters {
    /// Packets that came through.
    pub packets: u64,
    /// Their bytes; most drivers leave the frame check sequence out.
    pub bytes: u64,
    /// Packets that were damaged.
    pub errors: u64,
    /// Packets for which there was no room, or no way on.
    pub dropped: u64,
}
