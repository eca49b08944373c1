//! A route, as RTM_GETROUTE tells of it (rtnetlink(7), linux/rtnetlink.h).

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Family, IfIndex, Prefix, Scope};

/// Where packets to some addresses go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// IPv4 or IPv6.
    pub family: Family,
    /// To which addresses; `None` is the default route, to all.
    pub destination: Option<Prefix>,
    /// From which addresses only (IPv6 with subtrees).
    pub source: Option<Prefix>,
    /// The next router; `None` if the destination is on the link itself. May be IPv6 in an IPv4 route.
    pub gateway: Option<IpAddr>,
    /// Through which link. `None` for routes that lead nowhere and for those with several next hops.
    pub link: Option<IfIndex>,
    /// The next hops, if there are several: then `gateway` and `link` are `None`.
    pub hops: Vec<NextHop>,
    /// Of two routes to the same destination the lower one wins ("priority"); `None` is 0.
    pub metric: Option<u32>,
    /// The routing table: 254 is main, 255 local.
    pub table: u32,
    /// Who made it.
    pub protocol: RouteProtocol,
    /// What becomes of the packets.
    pub kind: RouteKind,
    /// How far it reaches.
    pub scope: Scope,
    /// Which own address the packets carry, if the sender did not choose.
    pub preferred_source: Option<IpAddr>,
    /// Its link is down: it does not count.
    pub dead: bool,
}

/// One of several next hops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHop {
    /// The next router.
    pub gateway: Option<IpAddr>,
    /// Through which link.
    pub link: Option<IfIndex>,
    /// Its share of the traffic: this of the sum of all. From 1 up.
    pub weight: u16,
}

/// What becomes of the packets that a route is for (`RTN_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// They go to the gateway, or to the destination itself.
    Unicast,
    /// They are for this host.
    Local,
    /// They go to all on the link.
    Broadcast,
    /// They go to the nearest of a group; sent as unicast.
    Anycast,
    /// They go to a group.
    Multicast,
    /// They are dropped in silence.
    Blackhole,
    /// They are dropped, and the sender is told "unreachable".
    Unreachable,
    /// They are dropped, and the sender is told "prohibited".
    Prohibit,
    /// The search goes on in the next table.
    Throw,
    /// A kind that has no name here.
    Other(u8),
}

impl From<u8> for RouteKind {
    fn from(raw: u8) -> RouteKind {
        match raw {
            libc::RTN_UNICAST => RouteKind::Unicast,
            libc::RTN_LOCAL => RouteKind::Local,
            libc::RTN_BROADCAST => RouteKind::Broadcast,
            libc::RTN_ANYCAST => RouteKind::Anycast,
            libc::RTN_MULTICAST => RouteKind::Multicast,
            libc::RTN_BLACKHOLE => RouteKind::Blackhole,
            libc::RTN_UNREACHABLE => RouteKind::Unreachable,
            libc::RTN_PROHIBIT => RouteKind::Prohibit,
            libc::RTN_THROW => RouteKind::Throw,
            other => RouteKind::Other(other),
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RouteKind::Unicast => "unicast",
            RouteKind::Local => "local",
            RouteKind::Broadcast => "broadcast",
            RouteKind::Anycast => "anycast",
            RouteKind::Multicast => "multicast",
            RouteKind::Blackhole => "blackhole",
            RouteKind::Unreachable => "unreachable",
            RouteKind::Prohibit => "prohibit",
            RouteKind::Throw => "throw",
            RouteKind::Other(other) => return write!(f, "kind {other}"),
        })
    }
}

/// Who made a route (`RTPROT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteProtocol {
    /// It is not said.
    Unspec,
    /// A redirect by ICMP.
    Redirect,
    /// The kernel itself, as for the network of an address.
    Kernel,
    /// Made at boot; also what `ip route add` writes.
    Boot,
    /// The administrator.
    Static,
    /// A router advertisement.
    Ra,
    /// A DHCP client.
    Dhcp,
    /// A routing daemon, by number (/etc/iproute2/rt_protos).
    Other(u8),
}

impl From<u8> for RouteProtocol {
    fn from(raw: u8) -> RouteProtocol {
        match raw {
            libc::RTPROT_UNSPEC => RouteProtocol::Unspec,
            libc::RTPROT_REDIRECT => RouteProtocol::Redirect,
            libc::RTPROT_KERNEL => RouteProtocol::Kernel,
            libc::RTPROT_BOOT => RouteProtocol::Boot,
            libc::RTPROT_STATIC => RouteProtocol::Static,
            9 => RouteProtocol::Ra,
            16 => RouteProtocol::Dhcp,
            other => RouteProtocol::Other(other),
        }
    }
}
