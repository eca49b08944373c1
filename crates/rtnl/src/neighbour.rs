//! A neighbour, as RTM_GETNEIGH tells of it (rtnetlink(7), linux/neighbour.h).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{IfIndex, Mac};

/// What is known of a host on a link: its hardware address, by ARP or neighbour discovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// The link that it is on.
    pub index: IfIndex,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address, as far as it is known.
    pub mac: Option<Mac>,
    /// How sure that is.
    pub state: NeighbourState,
    /// It calls itself a router (IPv6).
    pub router: bool,
}

/// How sure a neighbour's hardware address is (`NUD_*`, RFC 4861 section 7.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighbourState {
    /// Nothing is known yet.
    None,
    /// It is being asked for.
    Incomplete,
    /// It was seen to be right lately.
    Reachable,
    /// It was right once, and will be checked when it is used.
    Stale,
    /// It is in use, and will be checked soon.
    Delay,
    /// It is being checked.
    Probe,
    /// Nobody answered.
    Failed,
    /// The link needs none.
    NoArp,
    /// The administrator set it.
    Permanent,
    /// Bits that have no name here.
    Other(u16),
}

impl From<u16> for NeighbourState {
    fn from(raw: u16) -> NeighbourState {
        match raw {
            libc::NUD_NONE => NeighbourState::None,
            libc::NUD_INCOMPLETE => NeighbourState::Incomplete,
            libc::NUD_REACHABLE => NeighbourState::Reachable,
            libc::NUD_STALE => NeighbourState::Stale,
            libc::NUD_DELAY => NeighbourState::Delay,
            libc::NUD_PROBE => NeighbourState::Probe,
            libc::NUD_FAILED => NeighbourState::Failed,
            libc::NUD_NOARP => NeighbourState::NoArp,
            libc::NUD_PERMANENT => NeighbourState::Permanent,
            other => NeighbourState::Other(other),
        }
    }
}

impl fmt::Display for NeighbourState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            NeighbourState::None => "none",
            NeighbourState::Incomplete => "incomplete",
            NeighbourState::Reachable => "reachable",
            NeighbourState::Stale => "stale",
            NeighbourState::Delay => "delay",
            NeighbourState::Probe => "probe",
            NeighbourState::Failed => "failed",
            NeighbourState::NoArp => "noarp",
            NeighbourState::Permanent => "permanent",
            NeighbourState::Other(other) => return write!(f, "state {other:#x}"),
        })
    }
}
