//! Ethernet and what stands behind its type field (IEEE 802.3, IEEE 802 Numbers at IANA), with the protocols of
//! bridges and switches that are named but not taken apart: spanning tree, LLDP, LACP, 802.1X.

use serde::Serialize;

use super::bytes::{Bytes, be16, part};
use super::layers::{Layer, Next, NumberOf, Step, cut, end};
use super::text;
use super::{arp, ip, link};
use crate::packet::LinkType;

/// A hardware address, which is six bytes on all links that are read here.
pub type MacAddress = [u8; 6];

/// Ethernet's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ethernet {
    /// Who sent it.
    #[serde(serialize_with = "serialize_mac")]
    pub source: MacAddress,
    /// Who is to get it.
    #[serde(serialize_with = "serialize_mac")]
    pub destination: MacAddress,
    /// The ethertype, or the length if below 1536.
    pub ethertype: u16,
}

/// The 802.2 header of a frame that has a length instead of an ethertype.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Llc {
    /// Destination service access point.
    pub dsap: u8,
    /// Source service access point.
    pub ssap: u8,
    /// Bytes behind it.
    pub length: usize,
}

/// A protocol between neighbours on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control<'a> {
    /// A bridge protocol data unit: version 0 is STP, 2 RSTP, 3 MSTP.
    Stp {
        /// The protocol's version.
        version: u8,
        /// 0: configuration, 0x80: topology change, 2: rapid.
        kind: u8,
        /// Bytes of it.
        length: usize,
    },
    /// What a switch says of itself.
    Lldp {
        /// Its name, if it was found.
        system: &'a [u8],
        /// Bytes of it.
        length: usize,
    },
    /// A slow protocol: 1 is LACP, 2 the marker protocol.
    Slow {
        /// Which of them.
        subtype: u8,
        /// Bytes of it.
        length: usize,
    },
    /// 802.1X.
    Eapol {
        /// What kind of packet: 0 EAP, 1 start, 2 logoff, 3 key.
        kind: u8,
        /// Bytes of it.
        length: usize,
    },
}

pub(crate) fn serialize_mac<S: serde::Serializer>(
    mac: &MacAddress,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text::string(|out| text::mac(out, *mac)))
}

/// Destination, source, type.
#[inline]
pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<14>() else { return cut("ether") };
    let ethertype = be16(header, 12);
    let layer = Ethernet { destination: part(header, 0), source: part(header, 6), ethertype };
    let next = if ethertype >= 1536 {
        Next::EtherType(ethertype)
    } else {
        bytes.clip(usize::from(ethertype));
        Next::Llc
    };
    (Some(Layer::Ethernet(layer)), next)
}

/// What stands behind an ethertype.
#[inline]
pub(crate) fn payload<'a>(ethertype: u16, bytes: &mut Bytes<'a>) -> Step<'a> {
    match ethertype {
        0x0800 => ip::v4(bytes),
        0x86dd => ip::v6(bytes),
        _ => other_payload(ethertype, bytes),
    }
}

fn other_payload<'a>(ethertype: u16, bytes: &mut Bytes<'a>) -> Step<'a> {
    match ethertype {
        0x0806 | 0x8035 => arp::parse(bytes),
        0x8100 | 0x88a8 | 0x9100 => link::vlan(ethertype, bytes),
        0x8847 | 0x8848 => link::mpls(bytes),
        0x8863 | 0x8864 => link::pppoe(ethertype, bytes),
        0x6558 => (None, Next::Link(LinkType::ETHERNET)),
        0x880b => link::ppp(bytes),
        0x88cc => lldp(bytes),
        0x8809 => match bytes.u8() {
            Some(subtype) => end(Layer::Control(Control::Slow { subtype, length: bytes.length() + 1 })),
            None => cut("slow"),
        },
        0x888e => match bytes.array::<4>() {
            Some([_, kind, ..]) => {
                end(Layer::Control(Control::Eapol { kind: *kind, length: bytes.length() + 4 }))
            }
            None => cut("eapol"),
        },
        _ => end(Layer::Unknown {
            of: NumberOf::EtherType,
            number: u32::from(ethertype),
            length: bytes.length(),
        }),
    }
}

/// An 802.2 header: spanning tree, SNAP with an ethertype, or others that are named by their numbers.
pub(crate) fn llc<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let length = bytes.length();
    let Some(&[dsap, ssap, _control]) = bytes.array::<3>() else { return cut("llc") };
    match (dsap, ssap) {
        (0x42, 0x42) => match bytes.array::<4>() {
            Some(&[0, 0, version, kind]) => {
                end(Layer::Control(Control::Stp { version, kind, length: length - 3 }))
            }
            Some(header) => end(Layer::Malformed("stp protocol", u32::from(be16(header, 0)))),
            None => cut("stp"),
        },
        (0xaa, 0xaa) => match bytes.array::<5>() {
            Some(header) if header[..3] == [0, 0, 0] => (None, Next::EtherType(be16(header, 3))),
            Some(_) => end(Layer::Llc(Llc { dsap, ssap, length: length - 3 })),
            None => cut("snap"),
        },
        _ => end(Layer::Llc(Llc { dsap, ssap, length: length - 3 })),
    }
}

/// The elements of LLDP (IEEE 802.1AB) up to the system's name.
fn lldp<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let length = bytes.length();
    let mut system: &[u8] = &[];
    while let Some(head) = bytes.u16() {
        let value = bytes.up_to(usize::from(head & 0x1ff));
        match head >> 9 {
            0 => break,
            5 => system = value,
            _ => {}
        }
    }
    end(Layer::Control(Control::Lldp { system, length }))
}

impl Control<'_> {
    /// What it is called.
    pub fn name(&self) -> &'static str {
        match self {
            Control::Stp { version: 0, .. } => "STP",
            Control::Stp { version: 2, .. } => "RSTP",
            Control::Stp { version: 3, .. } => "MSTP",
            Control::Stp { .. } => "STP of unknown version",
            Control::Lldp { .. } => "LLDP",
            Control::Slow { subtype: 1, .. } => "LACP",
            Control::Slow { subtype: 2, .. } => "Marker",
            Control::Slow { .. } => "Slow protocol",
            Control::Eapol { .. } => "EAPOL",
        }
    }

    /// Bytes of it on the link.
    pub fn length(&self) -> usize {
        match *self {
            Control::Stp { length, .. }
            | Control::Lldp { length, .. }
            | Control::Slow { length, .. }
            | Control::Eapol { length, .. } => length,
        }
    }

    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, self.name());
        match *self {
            Control::Stp { kind: 0, .. } => text::put(out, " config"),
            Control::Stp { kind: 0x80, .. } => text::put(out, " topology change"),
            Control::Stp { kind: 2, .. } => text::put(out, " rapid"),
            Control::Lldp { system, .. } if !system.is_empty() => {
                text::put(out, " system ");
                text::escaped(out, system);
            }
            Control::Eapol { kind, .. } => {
                text::put(
                    out,
                    match kind {
                        0 => " EAP packet",
                        1 => " start",
                        2 => " logoff",
                        3 => " key",
                        _ => " unknown kind",
                    },
                );
            }
            Control::Stp { .. } | Control::Lldp { .. } | Control::Slow { .. } => {}
        }
        text::put(out, " length ");
        text::length(out, self.length());
    }
}
