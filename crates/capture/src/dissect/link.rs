//! Link headers other than Ethernet's, and the tags and labels that stand between a link and its network: Linux's
//! cooked headers, BSD's loopback, PPP, VLAN, MPLS (<https://www.tcpdump.org/linktypes.html>, IEEE 802.1Q, RFC 1661,
//! RFC 2516, RFC 3032).

use serde::Serialize;

use super::bytes::{Bytes, be16, be32, part};
use super::ether::MacAddress;
use super::layers::{Layer, Next, NumberOf, Step, cut, end};
use super::{ip, text};
use crate::packet::{Direction, LinkType};

/// Linux's cooked header, of either version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cooked {
    /// Which interface, by its index; only version 2 says it.
    pub interface: Option<u32>,
    /// What the kernel says whose it was: 0 to us, 1 broadcast, 2 multicast, 3 to someone else, 4 from us.
    pub packet_type: u8,
    /// The sender's address, where it is of six bytes.
    pub source: Option<MacAddress>,
    /// The protocol: an ethertype in most cases.
    pub protocol: u16,
}

/// A VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Vlan {
    /// 1 to 4094; 0 is only a priority.
    pub id: u16,
    /// 0 to 7.
    pub priority: u8,
    /// Drop eligible indicator.
    pub drop_eligible: bool,
    /// The ethertype that announced the tag: 0x8100 in most cases, 0x88a8 for a service tag.
    pub tag_type: u16,
}

/// One entry of an MPLS label stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Mpls {
    /// 20 bits.
    pub label: u32,
    /// Traffic class, once "experimental".
    pub class: u8,
    /// Whether it is the last of the stack.
    pub bottom: bool,
    /// Time to live.
    pub ttl: u8,
}

/// PPP's protocol field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ppp {
    /// 0x0021 IPv4, 0x0057 IPv6, 0xc021 LCP and so on.
    pub protocol: u16,
}

/// PPP over Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pppoe {
    /// 0 is a session's data; 0x09 PADI, 0x07 PADO, 0x19 PADR, 0x65 PADS, 0xa7 PADT.
    pub code: u8,
    /// The session.
    pub session: u16,
    /// Bytes behind the header, as it says.
    pub length: u16,
}

/// The first header of a packet of any link but Ethernet.
pub(crate) fn parse<'a>(link_type: LinkType, bytes: &mut Bytes<'a>) -> Step<'a> {
    match link_type {
        LinkType::RAW => ip::any(bytes),
        LinkType::IPV4 => ip::v4(bytes),
        LinkType::IPV6 => ip::v6(bytes),
        LinkType::LINUX_SLL => cooked(bytes),
        LinkType::LINUX_SLL2 => cooked2(bytes),
        LinkType::NULL => loopback(bytes, false),
        LinkType::LOOP => loopback(bytes, true),
        LinkType::PPP => ppp(bytes),
        // Numbers of the same things that old captures and some systems use.
        LinkType(12 | 14) => ip::any(bytes),
        LinkType(other) => {
            end(Layer::Unknown { of: NumberOf::LinkType, number: u32::from(other), length: bytes.length() })
        }
    }
}

fn cooked<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<16>() else { return cut("sll") };
    let layer = Cooked {
        interface: None,
        packet_type: header[1],
        source: (be16(header, 4) == 6).then(|| part(header, 6)),
        protocol: be16(header, 14),
    };
    (Some(Layer::Cooked(layer)), cooked_payload(be16(header, 2), layer.protocol))
}

fn cooked2<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<20>() else { return cut("sll2") };
    let layer = Cooked {
        interface: Some(be32(header, 4)),
        packet_type: header[10],
        source: (header[11] == 6).then(|| part(header, 12)),
        protocol: be16(header, 0),
    };
    (Some(Layer::Cooked(layer)), cooked_payload(be16(header, 8), layer.protocol))
}

/// Cooked headers put other things than ethertypes into the protocol field (linux/if_ether.h): 1 an 802.3 frame whose
/// length was there, 4 an 802.2 header. For a tunnel of GRE (ARPHRD 778) it is GRE's own protocol, an ethertype too.
fn cooked_payload(_hardware: u16, protocol: u16) -> Next {
    match protocol {
        0x0004 => Next::Llc,
        other => Next::EtherType(other),
    }
}

impl Cooked {
    /// Which way it went, as far as the packet type tells.
    pub fn direction(&self) -> Option<Direction> {
        match self.packet_type {
            0..=2 => Some(Direction::Inbound),
            4 => Some(Direction::Outbound),
            _ => None,
        }
    }
}

/// The families of the BSDs differ; all of them fit into a byte, which tells the byte order.
fn loopback<'a>(bytes: &mut Bytes<'a>, network_order: bool) -> Step<'a> {
    let Some(header) = bytes.peek::<4>() else { return cut("null") };
    let mut family = u32::from_be_bytes(*header);
    if !network_order && family > 0xffff {
        family = family.swap_bytes();
    }
    bytes.up_to(4);
    match family {
        2 => (None, Next::EtherType(0x0800)),
        10 | 24 | 28 | 30 => (None, Next::EtherType(0x86dd)),
        number => end(Layer::Unknown { of: NumberOf::Family, number, length: bytes.length() }),
    }
}

/// PPP, with HDLC's address and control before it or not; a protocol number of one byte is odd (RFC 1661, 6.5).
pub(crate) fn ppp<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    if bytes.peek() == Some(&[0xff, 0x03]) {
        bytes.up_to(2);
    }
    let protocol = match bytes.peek::<1>() {
        Some([short]) if short & 1 == 1 => bytes.u8().map(u16::from),
        _ => bytes.u16(),
    };
    match protocol {
        Some(protocol) => (Some(Layer::Ppp(Ppp { protocol })), Next::Ppp(protocol)),
        None => cut("ppp"),
    }
}

pub(crate) fn ppp_payload<'a>(protocol: u16, bytes: &mut Bytes<'a>) -> Step<'a> {
    match protocol {
        0x0021 => ip::v4(bytes),
        0x0057 => ip::v6(bytes),
        0x0281 => mpls(bytes),
        _ => end(Layer::Unknown { of: NumberOf::Ppp, number: u32::from(protocol), length: bytes.length() }),
    }
}

pub(crate) fn pppoe<'a>(_ethertype: u16, bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<6>() else { return cut("pppoe") };
    let layer = Pppoe { code: header[1], session: be16(header, 2), length: be16(header, 4) };
    bytes.clip(usize::from(layer.length));
    let next = match (layer.code, bytes.peek::<2>()) {
        (0, Some(&protocol)) => {
            bytes.up_to(2);
            Next::Ppp(u16::from_be_bytes(protocol))
        }
        (0, None) => Next::Cut("ppp"),
        _ => Next::Done,
    };
    (Some(Layer::Pppoe(layer)), next)
}

pub(crate) fn vlan<'a>(tag_type: u16, bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<4>() else { return cut("vlan") };
    let control = be16(header, 0);
    let layer = Vlan {
        id: control & 0xfff,
        priority: (control >> 13) as u8,
        drop_eligible: control & 0x1000 != 0,
        tag_type,
    };
    let ethertype = be16(header, 2);
    let next = if ethertype >= 1536 {
        Next::EtherType(ethertype)
    } else {
        bytes.clip(usize::from(ethertype));
        Next::Llc
    };
    (Some(Layer::Vlan(layer)), next)
}

/// A label; what stands behind the last one has to be guessed, as all do: from its first nibble.
pub(crate) fn mpls<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(entry) = bytes.u32() else { return cut("mpls") };
    let layer = Mpls {
        label: entry >> 12,
        class: (entry >> 9 & 7) as u8,
        bottom: entry & 0x100 != 0,
        ttl: entry as u8,
    };
    let next = match (layer.bottom, bytes.peek::<1>()) {
        (false, _) => Next::Mpls,
        (true, Some([first])) if matches!(first >> 4, 4 | 6) => Next::AnyIp,
        (true, _) => Next::Done,
    };
    (Some(Layer::Mpls(layer)), next)
}

impl Vlan {
    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, "vlan ");
        text::decimal(out, u32::from(self.id));
        if self.priority != 0 {
            text::put(out, " p ");
            text::decimal(out, u32::from(self.priority));
        }
        if self.drop_eligible {
            text::put(out, " DEI");
        }
    }
}

impl Mpls {
    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, "MPLS label ");
        text::decimal(out, self.label);
        text::put(out, " tc ");
        text::decimal(out, u32::from(self.class));
        text::put(out, if self.bottom { " [S] ttl " } else { " ttl " });
        text::decimal(out, u32::from(self.ttl));
    }
}

impl Pppoe {
    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(
            out,
            match self.code {
                0 => "PPPoE",
                0x09 => "PPPoE PADI",
                0x07 => "PPPoE PADO",
                0x19 => "PPPoE PADR",
                0x65 => "PPPoE PADS",
                0xa7 => "PPPoE PADT",
                _ => "PPPoE unknown code",
            },
        );
        text::put(out, " session 0x");
        text::hex(out, u32::from(self.session));
    }
}
