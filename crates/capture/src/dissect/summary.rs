//! The structured form of what a line shows: what `--json` prints for a packet.
//!
//! Numbers are those of the wire: sequence numbers are not relative. Text of packets is escaped as in lines.

use std::net::IpAddr;

use serde::{Serialize, Serializer};

use super::arp::Arp;
use super::clock::{Clock, TimeFormat, Zone};
use super::dns::Dns;
use super::ether::{Control, Ethernet, Llc};
use super::http::Http;
use super::icmp::Icmp;
use super::icmp6::Icmp6;
use super::igmp::Igmp;
use super::ip::{Esp, Fragment};
use super::layers::{Layer, Layers, NumberOf};
use super::link::{Cooked, Mpls, Pppoe, Vlan};
use super::sctp::Sctp;
use super::tcp::Tcp;
use super::tls::Tls;
use super::tunnel::Tunnel;
use super::udp::Udp;
use super::{Layer as L, text};
use crate::names::Names;
use crate::packet::{Direction, Interface, Packet};

/// A packet, decoded.
#[derive(Debug, Clone, Serialize)]
pub struct Summary<'a> {
    /// When it was seen: RFC 3339, universal time, nanoseconds.
    pub time: String,
    /// The interface's name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub interface: &'a str,
    /// `in` or `out`, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'static str>,
    /// Bytes on the link.
    pub length: u32,
    /// Bytes that were kept.
    pub captured: usize,
    /// The innermost protocol that was recognised: `dns`, `tcp`, `arp`.
    pub protocol: &'static str,
    /// The headers.
    #[serde(flatten)]
    pub frame: Frame<'a>,
}

/// IP's header of either version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct IpHeader<'a> {
    /// 4 or 6.
    pub version: u8,
    /// Where from.
    pub source: IpAddr,
    /// Where to.
    pub destination: IpAddr,
    /// Whose the source address is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_name: Option<&'a str>,
    /// Whose the destination address is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_name: Option<&'a str>,
    /// What is inside, behind all extension headers.
    pub protocol: u8,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Total length of IPv4, payload length of IPv6, as the header says.
    pub length: u16,
    /// IPv4's identification.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// IPv4's flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dont_fragment: Option<bool>,
    /// IPv6's flow label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<u32>,
    /// Which part of a packet this is, if it is not the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fragment: Option<Fragment>,
    /// Bytes that should be there by the header's length and were not on the link.
    #[serde(skip_serializing_if = "is_zero")]
    pub missing: u16,
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// ARP, and whose the addresses in it are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ArpHeader<'a> {
    /// The message.
    #[serde(flatten)]
    pub arp: Arp,
    /// Whose the sender's address is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_name: Option<&'a str>,
    /// Whose the address is that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_name: Option<&'a str>,
}

/// The headers of a packet, or of the packet inside of another.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs, reason = "each field is named after the header whose type documents it")]
pub struct Frame<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ethernet: Option<Ethernet>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooked: Option<Cooked>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<Vlan>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mpls: Vec<Mpls>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pppoe: Option<Pppoe>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arp: Option<ArpHeader<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpHeader<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extensions: Vec<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp6: Option<Icmp6<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub igmp: Option<Igmp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp: Option<Udp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sctp: Option<Sctp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub esp: Option<Esp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llc: Option<Llc>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_control")]
    pub control: Option<Control<'a>>,
    /// The number of a protocol that is not read: what it is one of, and the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<(&'static str, u32)>,
    /// The header that was not kept whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<&'static str>,
    /// The field that says what cannot be, and what stands in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malformed: Option<(&'static str, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// What is inside a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner: Option<Box<Frame<'a>>>,
}

fn serialize_control<S: Serializer>(control: &Option<Control<'_>>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_some(&text::string(|out| {
        if let Some(control) = control {
            control.line(out);
        }
    }))
}

impl<'a> Summary<'a> {
    /// Decodes a packet of this interface.
    pub fn new(packet: &Packet<'a>, interface: &'a Interface, names: &'a Names) -> Self {
        let mut layers = Layers::of(interface.link_type, packet);
        let mut protocol = "unknown";
        let frame = Frame::read(None, &mut layers, packet.interface, names, &mut protocol);
        let direction = packet.direction.or_else(|| frame.cooked.and_then(|cooked| cooked.direction()));
        Summary {
            time: time(packet),
            interface: &interface.name,
            direction: direction.map(|direction| match direction {
                Direction::Inbound => "in",
                Direction::Outbound => "out",
            }),
            length: packet.original_length,
            captured: packet.data.len(),
            protocol,
            frame,
        }
    }
}

fn time(packet: &Packet<'_>) -> String {
    let text = text::string(|out| Clock::new(TimeFormat::Date, Zone::Utc, true).write(packet.time, out));
    text.trim_end().replacen(' ', "T", 1) + "Z"
}

impl<'a> Frame<'a> {
    fn read(
        first: Option<Layer<'a>>,
        layers: &mut Layers<'a>,
        interface: usize,
        names: &'a Names,
        protocol: &mut &'static str,
    ) -> Self {
        let mut frame = Frame::default();
        let mut next = first;
        while let Some(layer) = next.take().or_else(|| layers.next()) {
            // IP in IP has no header of its own between them.
            if frame.ip.is_some() && matches!(layer, L::Ipv4(_) | L::Ipv6(_)) {
                let inner = Frame::read(Some(layer), layers, interface, names, protocol);
                frame.inner = Some(Box::new(inner));
                break;
            }
            *protocol = name(&layer).unwrap_or(protocol);
            frame.set(layer, interface, names);
            if let L::Tunnel(_) = layer {
                let inner = Frame::read(None, layers, interface, names, protocol);
                frame.inner = Some(Box::new(inner));
                break;
            }
        }
        frame
    }

    fn set(&mut self, layer: Layer<'a>, interface: usize, names: &'a Names) {
        match layer {
            L::Ethernet(header) => self.ethernet = Some(header),
            L::Cooked(header) => self.cooked = Some(header),
            L::Vlan(tag) => self.vlan.push(tag),
            L::Mpls(label) => self.mpls.push(label),
            L::Ppp(_) => {}
            L::Pppoe(header) => self.pppoe = Some(header),
            L::Llc(header) => self.llc = Some(header),
            L::Control(control) => self.control = Some(control),
            L::Arp(arp) => {
                self.arp = Some(ArpHeader {
                    arp,
                    sender_name: names.of(interface, arp.sender.into()),
                    target_name: names.of(interface, arp.target.into()),
                });
            }
            L::Ipv4(header) => {
                self.ip = Some(IpHeader {
                    version: 4,
                    source: header.source.into(),
                    destination: header.destination.into(),
                    source_name: names.of(interface, header.source.into()),
                    destination_name: names.of(interface, header.destination.into()),
                    protocol: header.protocol,
                    ttl: header.ttl,
                    tos: header.tos,
                    length: header.total_length,
                    id: Some(header.id),
                    dont_fragment: Some(header.dont_fragment),
                    flow: None,
                    fragment: header.fragment(),
                    missing: header.missing,
                });
            }
            L::Ipv6(header) => {
                self.ip = Some(IpHeader {
                    version: 6,
                    source: header.source.into(),
                    destination: header.destination.into(),
                    source_name: names.of(interface, header.source.into()),
                    destination_name: names.of(interface, header.destination.into()),
                    protocol: header.next_header,
                    ttl: header.hop_limit,
                    tos: header.class,
                    length: header.payload_length,
                    id: None,
                    dont_fragment: None,
                    flow: Some(header.flow),
                    fragment: None,
                    missing: header.missing,
                });
            }
            L::Extension(extension) => {
                self.extensions.push(extension.header);
                if let Some(ip) = &mut self.ip {
                    ip.protocol = extension.next_header;
                }
            }
            L::Fragment(fragment) => {
                if let Some(ip) = &mut self.ip {
                    ip.protocol = fragment.protocol;
                    ip.fragment = Some(fragment);
                }
            }
            L::Esp(header) => self.esp = Some(header),
            L::Icmp(message) => self.icmp = Some(message),
            L::Icmp6(message) => self.icmp6 = Some(message),
            L::Igmp(message) => self.igmp = Some(message),
            L::Tcp(segment) => self.tcp = Some(segment),
            L::Udp(datagram) => self.udp = Some(datagram),
            L::Sctp(packet) => self.sctp = Some(packet),
            L::Tunnel(header) => self.tunnel = Some(header),
            L::Dns(message) => self.dns = Some(message),
            L::Http(message) => self.http = Some(message),
            L::Tls(record) => self.tls = Some(record),
            L::Unknown { of, number, .. } => {
                let of = match of {
                    NumberOf::LinkType => "link type",
                    NumberOf::EtherType => "ethertype",
                    NumberOf::IpProtocol => "ip protocol",
                    NumberOf::Ppp => "ppp protocol",
                    NumberOf::Family => "address family",
                };
                self.unknown = Some((of, number));
            }
            L::Ports(..) => {}
            L::Truncated(header) => self.truncated = Some(header),
            L::Malformed(what, value) => self.malformed = Some((what, value)),
        }
    }
}

/// What a header is called, if it is one that a packet is called after.
fn name(layer: &Layer<'_>) -> Option<&'static str> {
    Some(match layer {
        L::Ethernet(_) => "ethernet",
        L::Mpls(_) => "mpls",
        L::Pppoe(_) => "pppoe",
        L::Llc(_) => "llc",
        L::Control(Control::Stp { .. }) => "stp",
        L::Control(Control::Lldp { .. }) => "lldp",
        L::Control(Control::Slow { .. }) => "slow",
        L::Control(Control::Eapol { .. }) => "eapol",
        L::Arp(_) => "arp",
        L::Ipv4(_) => "ipv4",
        L::Ipv6(_) => "ipv6",
        L::Esp(_) => "esp",
        L::Icmp(_) => "icmp",
        L::Icmp6(_) => "icmp6",
        L::Igmp(_) => "igmp",
        L::Tcp(_) => "tcp",
        L::Udp(_) => "udp",
        L::Sctp(_) => "sctp",
        L::Tunnel(tunnel) => tunnel.name(),
        L::Dns(_) => "dns",
        L::Http(_) => "http",
        L::Tls(_) => "tls",
        _ => return None,
    })
}
