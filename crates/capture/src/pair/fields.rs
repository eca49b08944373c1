//! The parts of a packet that may change on its way, and the payload that does not.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A part of a header that may be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The Ethernet source address.
    SourceMac,
    /// The Ethernet destination address.
    DestinationMac,
    /// The VLAN tags.
    Vlan,
    /// The IP source address.
    SourceAddress,
    /// The IP destination address.
    DestinationAddress,
    /// TTL or hop limit.
    HopLimit,
    /// DSCP and ECN: the IPv4 TOS byte, the IPv6 traffic class.
    TrafficClass,
    /// The TCP or UDP source port.
    SourcePort,
    /// The TCP or UDP destination port.
    DestinationPort,
    /// Something else: options, checksums, windows.
    Other,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::SourceMac => "source MAC",
            Field::DestinationMac => "destination MAC",
            Field::Vlan => "VLAN",
            Field::SourceAddress => "source address",
            Field::DestinationAddress => "destination address",
            Field::HopLimit => "TTL",
            Field::TrafficClass => "traffic class",
            Field::SourcePort => "source port",
            Field::DestinationPort => "destination port",
            Field::Other => "other bytes of the header",
        })
    }
}

/// One thing that was rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub field: Field,
    /// What it was at the first sighting.
    pub before: String,
    /// What it was at the second.
    pub after: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field == Field::Other {
            return self.field.fmt(f);
        }
        write!(f, "{} {} → {}", self.field, self.before, self.after)
    }
}

/// The header's parts, as far as there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Header {
    macs: Option<([u8; 6], [u8; 6])>,
    vlans: Vec<u16>,
    addresses: Option<(IpAddr, IpAddr)>,
    hop_limit: u8,
    traffic_class: u8,
    ports: Option<(u16, u16)>,
}

/// A packet's header, and what identifies the packet whatever becomes of the header.
pub(super) struct Parsed<'a> {
    pub(super) fields: Header,
    pub(super) payload: Option<Payload<'a>>,
}

/// What stays the same: protocol, the sender's numbers (IPv4 identification, TCP sequence numbers), the payload itself.
#[derive(Hash)]
pub(super) struct Payload<'a> {
    protocol: u8,
    numbers: [u32; 3],
    bytes: &'a [u8],
}

impl Header {
    /// What is different in another header of the same packet.
    pub(super) fn changes(&self, after: &Header) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut compare = |field, before: String, after: String| {
            if before != after {
                changes.push(Change { field, before, after });
            }
        };
        let mac = |mac: Option<[u8; 6]>| {
            mac.map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":")).unwrap_or_default()
        };
        compare(Field::SourceMac, mac(self.macs.map(|m| m.1)), mac(after.macs.map(|m| m.1)));
        compare(Field::DestinationMac, mac(self.macs.map(|m| m.0)), mac(after.macs.map(|m| m.0)));
        let vlans = |header: &Header| match header.vlans.as_slice() {
            [] => "none".to_owned(),
            tags => tags.iter().map(|tag| (tag & 0xfff).to_string()).collect::<Vec<_>>().join("."),
        };
        compare(Field::Vlan, vlans(self), vlans(after));
        let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
        compare(Field::SourceAddress, text(self.addresses.map(|a| a.0)), text(after.addresses.map(|a| a.0)));
        compare(
            Field::DestinationAddress,
            text(self.addresses.map(|a| a.1)),
            text(after.addresses.map(|a| a.1)),
        );
        compare(Field::HopLimit, self.hop_limit.to_string(), after.hop_limit.to_string());
        let class = |header: &Header| format!("0x{:02x}", header.traffic_class);
        compare(Field::TrafficClass, class(self), class(after));
        let port = |port: Option<u16>| port.map(|p| p.to_string()).unwrap_or_default();
        compare(Field::SourcePort, port(self.ports.map(|p| p.0)), port(after.ports.map(|p| p.0)));
        compare(Field::DestinationPort, port(self.ports.map(|p| p.1)), port(after.ports.map(|p| p.1)));
        if changes.is_empty() {
            changes.push(Change { field: Field::Other, before: String::new(), after: String::new() });
        }
        changes
    }
}

/// Takes an Ethernet frame apart. Fragments but the first, and what is no IP, have no payload that could be known again.
pub(super) fn header(frame: &[u8]) -> Parsed<'_> {
    let mut fields = Header::default();
    let payload = ethernet(frame, &mut fields);
    Parsed { fields, payload }
}

fn ethernet<'a>(frame: &'a [u8], fields: &mut Header) -> Option<Payload<'a>> {
    let (destination, rest) = frame.split_first_chunk::<6>()?;
    let (source, rest) = rest.split_first_chunk::<6>()?;
    fields.macs = Some((*destination, *source));
    let (mut kind, mut rest) = short(rest)?;
    while matches!(kind, 0x8100 | 0x88a8) {
        let (tag, after) = short(rest)?;
        fields.vlans.push(tag);
        (kind, rest) = short(after)?;
    }
    match kind {
        0x0800 => ipv4(rest, fields),
        0x86dd => ipv6(rest, fields),
        _ => None,
    }
}

fn ipv4<'a>(packet: &'a [u8], fields: &mut Header) -> Option<Payload<'a>> {
    let (fixed, _) = packet.split_first_chunk::<20>()?;
    fields.traffic_class = fixed[1];
    fields.hop_limit = fixed[8];
    let address =
        |at: usize| IpAddr::from(Ipv4Addr::new(fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]));
    fields.addresses = Some((address(12), address(16)));
    let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff;
    if fragment != 0 {
        return None;
    }
    let id = u32::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    transport(fixed[9], packet.get(usize::from(fixed[0] & 15) * 4..)?, id, fields)
}

fn ipv6<'a>(packet: &'a [u8], fields: &mut Header) -> Option<Payload<'a>> {
    let (fixed, rest) = packet.split_first_chunk::<40>()?;
    fields.traffic_class = fixed[0] << 4 | fixed[1] >> 4;
    fields.hop_limit = fixed[7];
    let address = |at: usize| {
        let bytes: Option<[u8; 16]> = fixed[at..at + 16].try_into().ok();
        bytes.map(|bytes| IpAddr::from(Ipv6Addr::from(bytes)))
    };
    fields.addresses = address(8).zip(address(24));
    transport(fixed[6], rest, 0, fields)
}

fn transport<'a>(protocol: u8, segment: &'a [u8], id: u32, fields: &mut Header) -> Option<Payload<'a>> {
    let known =
        |numbers: [u32; 2], bytes| Some(Payload { protocol, numbers: [id, numbers[0], numbers[1]], bytes });
    match protocol {
        6 => {
            let (fixed, _) = segment.split_first_chunk::<20>()?;
            let word =
                |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
            fields.ports = Some(((word(0) >> 16) as u16, word(0) as u16));
            known([word(4), word(8)], segment.get(usize::from(fixed[12] >> 4) * 4..)?)
        }
        17 | 136 => {
            let (fixed, rest) = segment.split_first_chunk::<8>()?;
            fields.ports =
                Some((u16::from_be_bytes([fixed[0], fixed[1]]), u16::from_be_bytes([fixed[2], fixed[3]])));
            known([0, 0], rest)
        }
        // Type and code, then the checksum, which covers an IPv6 packet's addresses.
        1 | 58 => known([u32::from(*segment.first()?), u32::from(*segment.get(1)?)], segment.get(4..)?),
        _ => known([0, 0], segment),
    }
}

fn short(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*number), rest))
}
