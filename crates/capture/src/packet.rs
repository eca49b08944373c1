//! What a packet is, wherever it comes from: a ring, a pcapng file, another tool's capture.

use std::fmt;

use serde::{Deserialize, Serialize};

/// When a packet was seen: nanoseconds since 1970-01-01 00:00 UTC, as far as the year 2554.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Whole seconds since the epoch.
    pub fn seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Nanoseconds within the second, 0 to 999,999,999.
    pub fn nanoseconds(self) -> u32 {
        (self.0 % 1_000_000_000) as u32
    }
}

/// Which way a packet went, seen from the link that it was captured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The link received it.
    Inbound,
    /// The link sent it.
    Outbound,
}

/// What a packet's first byte belongs to: a `LINKTYPE_` value of <https://www.tcpdump.org/linktypes.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: a 4-byte address family in the capturing machine's byte order.
    pub const NULL: LinkType = LinkType(0);
    /// Ethernet, from the destination address on, without the frame check sequence.
    pub const ETHERNET: LinkType = LinkType(1);
    /// PPP, with or without HDLC framing.
    pub const PPP: LinkType = LinkType(9);
    /// An IPv4 or IPv6 header, as its version nibble says.
    pub const RAW: LinkType = LinkType(101);
    /// OpenBSD loopback: as [`LinkType::NULL`], the family in network byte order.
    pub const LOOP: LinkType = LinkType(108);
    /// Linux "cooked", version 1: what `tcpdump -i any` wrote before libpcap 1.10.
    pub const LINUX_SLL: LinkType = LinkType(113);
    /// An IPv4 header.
    pub const IPV4: LinkType = LinkType(228);
    /// An IPv6 header.
    pub const IPV6: LinkType = LinkType(229);
    /// Linux "cooked", version 2, with the interface's index.
    pub const LINUX_SLL2: LinkType = LinkType(276);
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            LinkType::NULL => "NULL",
            LinkType::ETHERNET => "EN10MB",
            LinkType::PPP => "PPP",
            LinkType::RAW => "RAW",
            LinkType::LOOP => "LOOP",
            LinkType::LINUX_SLL => "LINUX_SLL",
            LinkType::IPV4 => "IPV4",
            LinkType::IPV6 => "IPV6",
            LinkType::LINUX_SLL2 => "LINUX_SLL2",
            LinkType(other) => return write!(f, "LINKTYPE {other}"),
        };
        f.write_str(name)
    }
}

/// Where packets were seen: one link of one target, or an interface that a file describes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// `web/eth0`; in a file of another tool whatever that called it, perhaps nothing.
    pub name: String,
    /// Engine, id, namespace, peer, in words.
    pub description: String,
    /// What its packets begin with.
    pub link_type: LinkType,
    /// Bytes kept of each packet at most; 0: no limit.
    pub snaplen: u32,
    /// The link's hardware address, if it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// The filter that was in force, as it was typed.
    pub filter: Option<String>,
}

/// One packet, its bytes lent by who holds them: the ring's block, the reader's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// When it was seen.
    pub time: Timestamp,
    /// Which of the capture's interfaces saw it: an index into the list of them, in the order they appeared.
    pub interface: usize,
    /// Which way it went, if that is known.
    pub direction: Option<Direction>,
    /// How long it was on the link, in bytes; `data` may hold less of it.
    pub original_length: u32,
    /// What was kept, from the link's header on, VLAN tags in their places.
    pub data: &'a [u8],
}
