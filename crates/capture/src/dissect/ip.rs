//! IPv4 (RFC 791), IPv6 and its extension headers (RFC 8200, RFC 2675, RFC 4302, RFC 4303).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use super::bytes::{Bytes, be16, be32, part};
use super::layers::{Layer, Next, NumberOf, Step, cut, end};
use super::text;

/// IPv4's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ipv4 {
    /// Where from.
    pub source: Ipv4Addr,
    /// Where to.
    pub destination: Ipv4Addr,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Bytes of header and payload, as it says; 0 in packets that the kernel has yet to cut.
    pub total_length: u16,
    /// Bytes of the header.
    pub header_length: u8,
    /// Identification.
    pub id: u16,
    /// Do not fragment.
    pub dont_fragment: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// Where in the whole packet this fragment's payload begins, in bytes.
    pub offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// What is inside.
    pub protocol: u8,
    /// Of the header.
    pub checksum: u16,
    /// Bytes that should be there by the header's length and were not on the link.
    pub missing: u16,
}

/// IPv6's fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Ipv6 {
    /// Where from.
    pub source: Ipv6Addr,
    /// Where to.
    pub destination: Ipv6Addr,
    /// Traffic class: DSCP and ECN.
    pub class: u8,
    /// Flow label.
    pub flow: u32,
    /// Bytes behind the header, as it says; 0 for a jumbogram.
    pub payload_length: u16,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Bytes that should be there by the header's length and were not on the link.
    pub missing: u16,
}

/// An extension header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Extension {
    /// Its number: 0 hop by hop, 43 routing, 51 authentication, 60 destination, 135 mobility.
    pub header: u8,
    /// Bytes of it.
    pub length: u16,
    /// What follows.
    pub next_header: u8,
}

/// A fragment of a packet: IPv6's header for it, or the same fields of IPv4's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Fragment {
    /// The same in all fragments of a packet.
    pub id: u32,
    /// Where its payload begins in the whole packet's, in bytes.
    pub offset: u16,
    /// Whether there are more behind it.
    pub more: bool,
    /// Bytes of its payload.
    pub length: usize,
    /// What is inside.
    pub protocol: u8,
}

/// Encapsulating security payload: what can be read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Esp {
    /// Security parameters index.
    pub spi: u32,
    /// Counts up.
    pub sequence: u32,
    /// Bytes of it.
    pub length: usize,
}

/// A header of the version that its first nibble says.
pub(crate) fn any<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    match bytes.peek::<1>() {
        Some([first]) if first >> 4 == 4 => v4(bytes),
        Some([first]) if first >> 4 == 6 => v6(bytes),
        Some([first]) => end(Layer::Malformed("ip version", u32::from(first >> 4))),
        None => cut("ip"),
    }
}

#[inline]
pub(crate) fn v4<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let on_link = bytes.length();
    let Some(header) = bytes.array::<20>() else { return cut("ip") };
    if header[0] >> 4 != 4 {
        return end(Layer::Malformed("ip version", u32::from(header[0] >> 4)));
    }
    let header_length = (header[0] & 15) * 4;
    if header_length < 20 {
        return end(Layer::Malformed("ip header length", u32::from(header_length)));
    }
    let (total_length, fragment) = (be16(header, 2), be16(header, 6));
    // The kernel leaves the length out where segmentation is still to come, and where 16 bits would not hold it.
    if total_length != 0 && total_length < u16::from(header_length) {
        return end(Layer::Malformed("ip length", u32::from(total_length)));
    }
    let layer = Ipv4 {
        source: Ipv4Addr::from(part::<20, 4>(header, 12)),
        destination: Ipv4Addr::from(part::<20, 4>(header, 16)),
        tos: header[1],
        total_length,
        header_length,
        id: be16(header, 4),
        dont_fragment: fragment & 0x4000 != 0,
        more_fragments: fragment & 0x2000 != 0,
        offset: (fragment & 0x1fff) << 3,
        ttl: header[8],
        protocol: header[9],
        checksum: be16(header, 10),
        missing: usize::from(total_length).saturating_sub(on_link) as u16,
    };
    let options = usize::from(header_length) - 20;
    let next = if options != 0 && bytes.slice(options).is_none() {
        Next::Cut("ip")
    } else if layer.offset != 0 {
        Next::Done
    } else {
        Next::Ip { protocol: layer.protocol, version: 4 }
    };
    if total_length != 0 {
        bytes.claim(usize::from(total_length) - usize::from(header_length));
    }
    (Some(Layer::Ipv4(layer)), next)
}

#[inline]
pub(crate) fn v6<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<40>() else { return cut("ip6") };
    if header[0] >> 4 != 6 {
        return end(Layer::Malformed("ip version", u32::from(header[0] >> 4)));
    }
    let payload_length = be16(header, 4);
    let layer = Ipv6 {
        source: Ipv6Addr::from(part::<40, 16>(header, 8)),
        destination: Ipv6Addr::from(part::<40, 16>(header, 24)),
        class: (be16(header, 0) >> 4) as u8,
        flow: be32(header, 0) & 0xf_ffff,
        payload_length,
        next_header: header[6],
        hop_limit: header[7],
        missing: usize::from(payload_length).saturating_sub(bytes.length()) as u16,
    };
    // A jumbogram says its length in an option; the link knows it as well.
    if payload_length != 0 {
        bytes.claim(usize::from(payload_length));
    }
    (Some(Layer::Ipv6(layer)), Next::Ip { protocol: layer.next_header, version: 6 })
}

/// What is neither TCP, UDP, SCTP nor one of the ICMPs: extension headers, IP in IP, and what is only named.
pub(crate) fn payload<'a>(protocol: u8, version: u8, bytes: &mut Bytes<'a>) -> Step<'a> {
    match protocol {
        4 => v4(bytes),
        41 => v6(bytes),
        0 | 43 | 60 | 135 if version == 6 => {
            let Some(&[next_header, words]) = bytes.array::<2>() else { return cut("ip6ext") };
            extension(protocol, next_header, 8 + u16::from(words) * 8, version, bytes)
        }
        51 => {
            let Some(&[next_header, words]) = bytes.array::<2>() else { return cut("ah") };
            extension(protocol, next_header, 8 + u16::from(words) * 4, version, bytes)
        }
        44 if version == 6 => fragment(bytes),
        50 => match bytes.array::<8>() {
            Some(header) => end(Layer::Esp(Esp {
                spi: be32(header, 0),
                sequence: be32(header, 4),
                length: bytes.length() + 8,
            })),
            None => cut("esp"),
        },
        137 => (None, Next::Mpls),
        59 if version == 6 => (None, Next::Done),
        _ => end(Layer::Unknown {
            of: NumberOf::IpProtocol,
            number: u32::from(protocol),
            length: bytes.length(),
        }),
    }
}

fn extension<'a>(header: u8, next_header: u8, length: u16, version: u8, bytes: &mut Bytes<'a>) -> Step<'a> {
    let next = match bytes.slice(usize::from(length) - 2) {
        Some(_) => Next::Ip { protocol: next_header, version },
        None => Next::Cut("ip6ext"),
    };
    (Some(Layer::Extension(Extension { header, length, next_header })), next)
}

fn fragment<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let Some(header) = bytes.array::<8>() else { return cut("frag") };
    let word = be16(header, 2);
    let layer = Fragment {
        id: be32(header, 4),
        offset: word & !7,
        more: word & 1 == 1,
        length: bytes.length(),
        protocol: header[0],
    };
    let next = if layer.offset == 0 { Next::Ip { protocol: layer.protocol, version: 6 } } else { Next::Done };
    (Some(Layer::Fragment(layer)), next)
}

impl Ipv4 {
    /// What it says of fragments, if it is one.
    #[inline]
    pub fn fragment(&self) -> Option<Fragment> {
        (self.offset != 0 || self.more_fragments).then(|| Fragment {
            id: u32::from(self.id),
            offset: self.offset,
            more: self.more_fragments,
            length: usize::from(self.total_length.saturating_sub(u16::from(self.header_length))),
            protocol: self.protocol,
        })
    }

    /// The header's fields as `tcpdump -v` shows them.
    pub(crate) fn details(&self, out: &mut Vec<u8>) {
        text::put(out, "(tos 0x");
        text::hex(out, u32::from(self.tos));
        text::put(out, ", ttl ");
        text::decimal(out, u32::from(self.ttl));
        text::put(out, ", id ");
        text::decimal(out, u32::from(self.id));
        text::put(out, ", offset ");
        text::decimal(out, u32::from(self.offset));
        text::put(
            out,
            match (self.dont_fragment, self.more_fragments) {
                (false, false) => ", flags [none]",
                (true, false) => ", flags [DF]",
                (false, true) => ", flags [+]",
                (true, true) => ", flags [+, DF]",
            },
        );
        text::put(out, ", proto ");
        protocol_name(out, self.protocol);
        text::put(out, " (");
        text::decimal(out, u32::from(self.protocol));
        text::put(out, "), length ");
        text::decimal(out, u32::from(self.total_length));
        text::put(out, ") ");
    }
}

impl Ipv6 {
    /// The header's fields as `tcpdump -v` shows them.
    pub(crate) fn details(&self, out: &mut Vec<u8>) {
        out.push(b'(');
        if self.class != 0 {
            text::put(out, "class 0x");
            text::hex_byte(out, self.class);
            text::put(out, ", ");
        }
        if self.flow != 0 {
            text::put(out, "flowlabel 0x");
            for shift in [16, 8, 0] {
                let byte = (self.flow >> shift) as u8;
                if shift == 16 { text::hex(out, u32::from(byte)) } else { text::hex_byte(out, byte) }
            }
            text::put(out, ", ");
        }
        text::put(out, "hlim ");
        text::decimal(out, u32::from(self.hop_limit));
        text::put(out, ", next-header ");
        protocol_name(out, self.next_header);
        text::put(out, " (");
        text::decimal(out, u32::from(self.next_header));
        text::put(out, ") payload length: ");
        text::decimal(out, u32::from(self.payload_length));
        text::put(out, ") ");
    }
}

impl Extension {
    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(
            out,
            match self.header {
                0 => "HBH",
                43 => "RT",
                51 => "AH",
                60 => "DSTOPT",
                _ => "MH",
            },
        );
        out.push(b' ');
    }
}

impl Fragment {
    /// The notation of packet filters: `frag ID:LENGTH@OFFSET`, and `+` if more follow.
    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, "frag ");
        text::decimal(out, self.id);
        out.push(b':');
        text::length(out, self.length);
        out.push(b'@');
        text::decimal(out, u32::from(self.offset));
        if self.more {
            out.push(b'+');
        }
    }
}

impl Esp {
    pub(crate) fn line(&self, out: &mut Vec<u8>) {
        text::put(out, "ESP spi 0x");
        for byte in self.spi.to_be_bytes() {
            text::hex_byte(out, byte);
        }
        text::put(out, " seq ");
        text::decimal(out, self.sequence);
        text::put(out, " length ");
        text::length(out, self.length);
    }
}

/// The name of a protocol of IANA's list that is met on containers' links, else its number.
pub(crate) fn protocol_name(out: &mut Vec<u8>, protocol: u8) {
    text::put(
        out,
        match protocol {
            0 => "HBH",
            1 => "ICMP",
            2 => "IGMP",
            4 => "IPIP",
            6 => "TCP",
            17 => "UDP",
            33 => "DCCP",
            41 => "IPv6",
            43 => "RT",
            44 => "Fragment",
            46 => "RSVP",
            47 => "GRE",
            50 => "ESP",
            51 => "AH",
            58 => "ICMP6",
            59 => "no next header",
            60 => "DSTOPT",
            88 => "EIGRP",
            89 => "OSPF",
            103 => "PIM",
            108 => "IPComp",
            112 => "VRRP",
            115 => "L2TP",
            132 => "SCTP",
            136 => "UDPLite",
            137 => "MPLS",
            _ => {
                text::put(out, "ip-proto-");
                return text::decimal(out, u32::from(protocol));
            }
        },
    );
}

/// Source and destination of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
}
