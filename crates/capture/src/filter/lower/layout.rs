//! Where in a packet the headers are.
//!
//! `vlan`, `mpls`, `pppoes` and `geneve` move everything that comes after them in the expression (not only what they
//! are joined to): that is the documented behaviour of pcap-filter(7).

use crate::LinkType;

/// An offset from the packet's first byte: a constant, and perhaps the value of a cell of scratch memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) constant: u32,
    pub(super) cell: Option<u32>,
}

impl Offset {
    pub(super) const fn fixed(constant: u32) -> Offset {
        Offset { constant, cell: None }
    }
}

/// What an offset is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    LinkHeader,
    /// The link's payload; for a frame with an 802.2 header its first byte.
    LinkPayload,
    /// The field that says which protocol the payload is.
    LinkType,
    /// The header of the network's protocol.
    Network,
    /// The same in a frame with an 802.2 header that is not followed by a SNAP header.
    NetworkAfterLlc,
    /// The last MPLS label before the network's header.
    LastLabel,
    /// What follows the IPv4 header and its options.
    TransportV4,
    /// What follows the IPv6 header, whatever that is.
    TransportV6,
}

/// The headers, as far as the expression has been read.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// What the link's header is; it changes within tunnels.
    pub(super) link: LinkType,
    pub(super) header: Offset,
    pub(super) payload: Offset,
    /// The field of the payload's protocol; nothing if the link has none.
    pub(super) protocol: Option<Offset>,
    /// The network's header, from the payload on.
    pub(super) network: u32,
    pub(super) network_after_llc: u32,
    /// MPLS labels that were asked for.
    pub(super) labels: u32,
    /// VLAN tags that were asked for.
    pub(super) tags: u32,
    /// Within Geneve, where a link header is only sometimes.
    pub(super) geneve: bool,
}

impl Layout {
    /// The layout of a packet of this kind; nothing if filters do not know it.
    pub(super) fn of(link: LinkType) -> Option<Layout> {
        let (protocol, payload, network_after_llc) = match link {
            LinkType::ETHERNET => (Some(12), 14, 3),
            LinkType::NULL | LinkType::LOOP => (Some(0), 4, 0),
            LinkType::PPP => (Some(2), 4, 0),
            LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => (None, 0, 0),
            LinkType::LINUX_SLL => (Some(14), 16, 0),
            LinkType::LINUX_SLL2 => (Some(0), 20, 0),
            _ => return None,
        };
        Some(Layout {
            link,
            header: Offset::fixed(0),
            payload: Offset::fixed(payload),
            protocol: protocol.map(Offset::fixed),
            network: 0,
            network_after_llc,
            labels: 0,
            tags: 0,
            geneve: false,
        })
    }
}
