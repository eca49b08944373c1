//! ICMP (RFC 792, RFC 1191, and IANA's list of types), with the packet that an error is about.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use super::bytes::{Bytes, be16, be32, part};
use super::ip::Pair;
use super::layers::{Layer, Next, Step, cut, end};
use super::line::View;
use super::{ip, text};

/// An ICMP message.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Icmp<'a> {
    /// The type: 0 echo reply, 3 unreachable, 8 echo request, 11 time exceeded and so on.
    #[serde(rename = "type")]
    pub kind: u8,
    /// What the type says further.
    pub code: u8,
    /// Of the message.
    pub checksum: u16,
    /// Identifier, of an echo.
    pub id: Option<u16>,
    /// Sequence number, of an echo.
    pub seq: Option<u16>,
    /// The last four bytes of the header: a gateway's address, a link's MTU.
    #[serde(skip)]
    pub rest: [u8; 4],
    /// What an error is about.
    pub about: Option<Quoted>,
    /// Bytes of it.
    pub length: usize,
    /// What stands behind its eight bytes, as far as it was kept.
    #[serde(skip)]
    pub payload: &'a [u8],
}

/// The packet that an error is about, as far as the error repeats it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quoted {
    /// Where it came from.
    pub source: IpAddr,
    /// Where it should go.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: u8,
    /// Source and destination port, of TCP, UDP and SCTP.
    pub ports: Option<(u16, u16)>,
}

impl Quoted {
    /// The headers of a packet in an error, behind any extension headers.
    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Option<Quoted> {
        let (mut layer, mut next) = ip::any(bytes);
        let pair = match layer {
            Some(Layer::Ipv4(header)) => {
                Pair { source: header.source.into(), destination: header.destination.into() }
            }
            Some(Layer::Ipv6(header)) => {
                Pair { source: header.source.into(), destination: header.destination.into() }
            }
            _ => return None,
        };
        for _ in 0..8 {
            let Next::Ip { protocol, version } = next else { break };
            if version == 6 && matches!(protocol, 0 | 43 | 44 | 60) {
                (layer, next) = ip::payload(protocol, version, bytes);
                continue;
            }
            let ports = matches!(protocol, 6 | 17 | 132).then(|| bytes.peek::<4>()).flatten();
            return Some(Quoted {
                source: pair.source,
                destination: pair.destination,
                protocol,
                ports: ports.map(|ports| (be16(ports, 0), be16(ports, 2))),
            });
        }
        let protocol = match layer {
            Some(Layer::Ipv4(header)) => header.protocol,
            Some(Layer::Ipv6(header)) => header.next_header,
            Some(Layer::Fragment(header)) => header.protocol,
            Some(Layer::Extension(header)) => header.next_header,
            _ => return None,
        };
        Some(Quoted { source: pair.source, destination: pair.destination, protocol, ports: None })
    }

    /// `ADDRESS udp port PORT`, or the address alone where there is no port.
    pub(crate) fn destination(&self, view: &View<'_>, out: &mut Vec<u8>) {
        view.ip(out, self.destination);
        if let Some((_, port)) = self.ports {
            text::put(
                out,
                match self.protocol {
                    6 => " tcp port ",
                    17 => " udp port ",
                    _ => " sctp port ",
                },
            );
            text::decimal(out, u32::from(port));
        }
    }
}

pub(crate) fn parse<'a>(bytes: &mut Bytes<'a>) -> Step<'a> {
    let length = bytes.length();
    let Some(header) = bytes.array::<8>() else { return cut("icmp") };
    let kind = header[0];
    let payload = bytes.kept();
    let query = matches!(kind, 0 | 8 | 13 | 14 | 15 | 16 | 17 | 18 | 42 | 43);
    end(Layer::Icmp(Icmp {
        kind,
        code: header[1],
        checksum: be16(header, 2),
        id: query.then(|| be16(header, 4)),
        seq: query.then(|| be16(header, 6)),
        rest: part(header, 4),
        about: matches!(kind, 3 | 4 | 5 | 11 | 12).then(|| Quoted::read(bytes)).flatten(),
        length,
        payload,
    }))
}

impl Icmp<'_> {
    /// The MTU of the link that a packet did not fit through (type 3, code 4).
    pub fn mtu(&self) -> Option<u16> {
        (self.kind == 3 && self.code == 4).then(|| be16(&self.rest, 2))
    }

    pub(crate) fn line(&self, view: &View<'_>, out: &mut Vec<u8>) {
        text::put(out, "ICMP ");
        match self.kind {
            0 => text::put(out, "echo reply"),
            8 => text::put(out, "echo request"),
            3 => self.unreachable(view, out),
            4 => text::put(out, "source quench"),
            5 => {
                text::put(out, "redirect ");
                if let Some(quoted) = self.about {
                    quoted.destination(view, out);
                }
                text::put(out, if self.code & 1 == 0 { " to net " } else { " to host " });
                view.ip(out, Ipv4Addr::from(self.rest).into());
            }
            9 => text::put(out, "router advertisement"),
            10 => text::put(out, "router solicitation"),
            11 => {
                text::put(
                    out,
                    match self.code {
                        0 => "time exceeded in-transit",
                        1 => "ip reassembly time exceeded",
                        _ => "time exceeded",
                    },
                );
                if let Some(quoted) = self.about {
                    text::put(out, " to ");
                    quoted.destination(view, out);
                }
            }
            12 => {
                text::put(out, "parameter problem at octet ");
                text::decimal(out, u32::from(self.rest[0]));
            }
            13 => text::put(out, "time stamp query"),
            14 => text::put(out, "time stamp reply"),
            15 => text::put(out, "information request"),
            16 => text::put(out, "information reply"),
            17 => text::put(out, "address mask request"),
            18 => text::put(out, "address mask reply"),
            42 => text::put(out, "extended echo request"),
            43 => text::put(out, "extended echo reply"),
            other => unnamed(other, self.code, out),
        }
        ending(self.id.zip(self.seq), self.length, out);
    }

    fn unreachable(&self, view: &View<'_>, out: &mut Vec<u8>) {
        let (before, after) = match self.code {
            0 => ("net ", " unreachable"),
            1 => ("host ", " unreachable"),
            2 => ("", " protocol unreachable"),
            3 => ("", " unreachable"),
            4 => ("", " unreachable - need to frag"),
            5 => ("", " unreachable - source route failed"),
            6 => ("net ", " unreachable - unknown"),
            7 => ("host ", " unreachable - unknown"),
            9 => ("net ", " unreachable - admin prohibited"),
            10 => ("host ", " unreachable - admin prohibited"),
            11 => ("net ", " unreachable - type of service"),
            12 => ("host ", " unreachable - type of service"),
            13 => ("host ", " unreachable - admin prohibited filter"),
            14 => ("host ", " unreachable - host precedence violation"),
            15 => ("host ", " unreachable - precedence cutoff"),
            _ => ("", " unreachable"),
        };
        text::put(out, before);
        match self.about {
            // Which port is what an unreachable port, host or MTU is about; a protocol has none.
            Some(quoted) if self.code == 2 => {
                view.ip(out, quoted.destination);
                out.push(b' ');
                ip::protocol_name(out, quoted.protocol);
            }
            Some(quoted) => quoted.destination(view, out),
            None => text::put(out, "destination"),
        }
        text::put(out, after);
        if let Some(mtu) = self.mtu().filter(|mtu| *mtu != 0) {
            text::put(out, " (mtu ");
            text::decimal(out, u32::from(mtu));
            out.push(b')');
        }
    }
}

/// The last four bytes of a header as a number.
pub(crate) fn rest_word(rest: &[u8; 4]) -> u32 {
    be32(rest, 0)
}
/// A type that has no words here; ICMPv6's too.
pub(super) fn unnamed(kind: u8, code: u8, out: &mut Vec<u8>) {
    text::put(out, "type ");
    text::decimal(out, u32::from(kind));
    text::put(out, " code ");
    text::decimal(out, u32::from(code));
}

/// What ends every line of ICMP and ICMPv6: identifier and sequence number of an echo, and the length.
pub(super) fn ending(echo: Option<(u16, u16)>, length: usize, out: &mut Vec<u8>) {
    if let Some((id, seq)) = echo {
        text::put(out, " id ");
        text::decimal(out, u32::from(id));
        text::put(out, " seq ");
        text::decimal(out, u32::from(seq));
    }
    text::put(out, " length ");
    text::length(out, length);
}
