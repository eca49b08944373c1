//! Headers behind which a packet of another network begins: VXLAN (RFC 7348), Geneve (RFC 8926), GRE (RFC 2784,
//! RFC 2890, PPTP's kind of RFC 2637, ERSPAN).

use serde::Serialize;

use super::bytes::{Bytes, be16};
use super::layers::{Layer, Next, Step, cut, end};
use super::text;
use crate::packet::LinkType;

/// A tunnel's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Tunnel {
    /// Ethernet in UDP.
    Vxlan {
        /// Network identifier.
        vni: u32,
        /// 0x08: the identifier counts.
        flags: u8,
    },
    /// Anything in UDP.
    Geneve {
        /// Network identifier.
        vni: u32,
        /// Ethertype of what is inside; 0x6558 is Ethernet.
        protocol: u16,
    },
    /// Anything in IP.
    Gre {
        /// The version: 1 is PPTP's.
        version: u8,
        /// Ethertype of what is inside.
        protocol: u16,
        /// Which tunnel, if it says.
        key: Option<u32>,
        /// Counts up, if it says.
        sequence: Option<u32>,
        /// Bytes behind the header.
        length: usize,
    },
}

/// VXLAN has no mark of its own but reserved bits, which are nought; what has others set is another protocol's.
pub(crate) fn vxlan<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.peek::<8>() else { return cut("vxlan") };
    let &[flags, _, _, _, high, middle, low, last] = header;
    if flags & 0x08 == 0 || last != 0 {
        return (None, Next::Done);
    }
    bytes.up_to(8);
    let vni = u32::from_be_bytes([0, high, middle, low]);
    (Some(Layer::Tunnel(Tunnel::Vxlan { vni, flags })), Next::Link(LinkType::ETHERNET))
}

pub(crate) fn geneve<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<8>() else { return cut("geneve") };
    let &[version, _, _, _, high, middle, low, _] = header;
    if version >> 6 != 0 {
        return end(Layer::Malformed("geneve version", u32::from(version >> 6)));
    }
    let protocol = be16(header, 2);
    let next = match bytes.slice(usize::from(version & 0x3f) * 4) {
        Some(_) => Next::EtherType(protocol),
        None => Next::Cut("geneve"),
    };
    let vni = u32::from_be_bytes([0, high, middle, low]);
    (Some(Layer::Tunnel(Tunnel::Geneve { vni, protocol })), next)
}

pub(crate) fn gre<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<4>() else { return cut("gre") };
    let (flags, protocol) = (be16(header, 0), be16(header, 2));
    let version = (flags & 7) as u8;
    // Checksum and offset, which also come with the routing that nobody uses.
    if flags & 0xc000 != 0 && bytes.u32().is_none() {
        return cut("gre");
    }
    if flags & 0x4000 != 0 {
        return end(Layer::Malformed("gre source routing", u32::from(flags)));
    }
    let mut word = |present: bool| if present { bytes.u32().map(Some).ok_or(()) } else { Ok(None) };
    let (Ok(key), Ok(sequence)) = (word(flags & 0x2000 != 0), word(flags & 0x1000 != 0)) else {
        return cut("gre");
    };
    if version == 1 && flags & 0x80 != 0 && bytes.u32().is_none() {
        return cut("gre");
    }
    let layer = Tunnel::Gre { version, protocol, key, sequence, length: bytes.length() };
    let next = match protocol {
        // ERSPAN without a sequence number is type I, which has no header; with one it is type II, of eight bytes.
        0x88be => match sequence.map(|_| bytes.slice(8)) {
            Some(None) => Next::Cut("erspan"),
            _ => Next::Link(LinkType::ETHERNET),
        },
        // PPTP acknowledges in packets without a payload.
        0x880b if bytes.length() == 0 => Next::Done,
        _ => Next::EtherType(protocol),
    };
    (Some(Layer::Tunnel(layer)), next)
}

impl Tunnel {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Tunnel::Vxlan { .. } => "vxlan",
            Tunnel::Geneve { .. } => "geneve",
            Tunnel::Gre { .. } => "gre",
        }
    }

    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        match *self {
            Tunnel::Vxlan { vni, .. } => {
                text::put(out, "VXLAN vni ");
                text::decimal(out, vni);
            }
            Tunnel::Geneve { vni, .. } => {
                text::put(out, "Geneve vni ");
                text::decimal(out, vni);
            }
            Tunnel::Gre { version, key, sequence, .. } => {
                text::put(out, "GREv");
                text::decimal(out, u32::from(version));
                if let Some(key) = key {
                    text::put(out, " key 0x");
                    text::hex(out, key);
                }
                if let Some(sequence) = sequence {
                    text::put(out, " seq ");
                    text::decimal(out, sequence);
                }
            }
        }
    }
}
