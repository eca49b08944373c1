//! One walk over a packet: header after header, each as a value that borrows from the packet.
//!
//! Everything that wants to know what is in a packet takes these steps: the line, the structured form, the table of
//! flows, relative sequence numbers. A header that was cut off by the snap length ends the walk with
//! [`Layer::Truncated`], one that contradicts itself with [`Layer::Malformed`].

use super::arp::Arp;
use super::bytes::Bytes;
use super::dns::Dns;
use super::ether::{Control, Ethernet, Llc};
use super::http::Http;
use super::icmp::Icmp;
use super::icmp6::Icmp6;
use super::igmp::Igmp;
use super::ip::{Esp, Extension, Fragment, Ipv4, Ipv6};
use super::link::{Cooked, Mpls, Ppp, Pppoe, Vlan};
use super::sctp::Sctp;
use super::tcp::Tcp;
use super::tls::Tls;
use super::tunnel::Tunnel;
use super::udp::Udp;
use super::{ether, icmp, icmp6, igmp, ip, link, sctp, tcp, tunnel, udp};
use crate::packet::{LinkType, Packet};

/// How many headers of one packet are read: enough for a tunnel in a tunnel, and an end to one that only nests.
const DEPTH: u8 = 32;

/// One header, or the reason why there are no more.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Layer<'a> {
    /// Addresses and ethertype.
    Ethernet(Ethernet),
    /// Linux's own header of captures on several links.
    Cooked(Cooked),
    /// 802.1Q or 802.1ad tag.
    Vlan(Vlan),
    /// A label of MPLS.
    Mpls(Mpls),
    /// PPP's protocol number.
    Ppp(Ppp),
    /// PPP over Ethernet.
    Pppoe(Pppoe),
    /// An 802.2 header instead of an ethertype.
    Llc(Llc),
    /// Spanning tree, LLDP and others that are named, and read no further than one line says.
    Control(Control<'a>),
    /// ARP and RARP.
    Arp(Arp),
    /// IPv4.
    Ipv4(Ipv4),
    /// IPv6's fixed header.
    Ipv6(Ipv6),
    /// An extension header of IPv6, or an authentication header.
    Extension(Extension),
    /// IPv6's fragment header. The walk goes on only in the first fragment, as it does with IPv4's.
    Fragment(Fragment),
    /// An encrypted payload.
    Esp(Esp),
    /// ICMP.
    Icmp(Icmp<'a>),
    /// ICMPv6, with neighbour discovery and multicast listeners.
    Icmp6(Icmp6<'a>),
    /// IGMP.
    Igmp(Igmp),
    /// TCP.
    Tcp(Tcp<'a>),
    /// UDP.
    Udp(Udp<'a>),
    /// SCTP.
    Sctp(Sctp<'a>),
    /// A header behind which a packet of another network begins.
    Tunnel(Tunnel),
    /// A question to a name server, or its answer.
    Dns(Dns<'a>),
    /// The first line of a request or answer of HTTP/1.
    Http(Http<'a>),
    /// A record of TLS.
    Tls(Tls<'a>),
    /// A protocol that is not read; only its number is known.
    Unknown {
        /// What the number is one of.
        of: NumberOf,
        /// The number.
        number: u32,
        /// Bytes behind the header that named it, as on the link.
        length: usize,
    },
    /// The ports of a transport header whose rest was not kept; [`Layer::Truncated`] follows.
    Ports(u16, u16),
    /// The named header was not kept whole.
    Truncated(&'static str),
    /// A header says what cannot be: which field, and what stands in it.
    Malformed(&'static str, u32),
}

/// What a protocol number is one of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberOf {
    /// The link type of the capture.
    LinkType,
    /// The type field of Ethernet and its kin.
    EtherType,
    /// IPv4's protocol, IPv6's next header.
    IpProtocol,
    /// PPP's protocol field.
    Ppp,
    /// An address family of the BSDs.
    Family,
}

/// What is read next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Next {
    Link(LinkType),
    EtherType(u16),
    Llc,
    Mpls,
    Ppp(u16),
    /// The version is in the first nibble.
    AnyIp,
    Ip {
        protocol: u8,
        version: u8,
    },
    TcpData(u16, u16),
    UdpData(u16, u16),
    Cut(&'static str),
    Done,
}

/// A header that was read, and what follows it.
pub(crate) type Step<'a> = (Option<Layer<'a>>, Next);

/// The end of a walk that says why.
#[inline]
pub(crate) fn end(layer: Layer<'_>) -> Step<'_> {
    (Some(layer), Next::Done)
}

/// The end of a walk at a header that was not kept whole.
#[inline]
pub(crate) fn cut(header: &'static str) -> Step<'static> {
    end(Layer::Truncated(header))
}

/// The headers of one packet, from the outermost on.
#[derive(Debug, Clone)]
pub struct Layers<'a> {
    rest: Bytes<'a>,
    next: Next,
    depth: u8,
    link_header: usize,
    in_link_header: bool,
    /// Of the IP packet that the walk is in there is more in others.
    fragment: bool,
    whole: usize,
}

impl<'a> Layers<'a> {
    /// The headers of a packet of an interface of this type.
    #[inline]
    pub fn of(link_type: LinkType, packet: &Packet<'a>) -> Self {
        Self::new(link_type, packet.data, packet.original_length as usize)
    }

    /// The headers in bytes of which `original_length` were on the link.
    #[inline]
    pub fn new(link_type: LinkType, data: &'a [u8], original_length: usize) -> Self {
        let rest = Bytes::new(data, original_length);
        Layers {
            rest,
            next: Next::Link(link_type),
            depth: 0,
            link_header: 0,
            in_link_header: true,
            fragment: false,
            whole: data.len(),
        }
    }

    /// How many bytes of the link's header, with its VLAN tags, the walk has passed so far.
    pub fn link_header(&self) -> usize {
        self.link_header
    }
}

impl<'a> Iterator for Layers<'a> {
    type Item = Layer<'a>;

    #[inline]
    fn next(&mut self) -> Option<Layer<'a>> {
        loop {
            let rest = &mut self.rest;
            let (layer, next) = match self.next {
                Next::Done => return None,
                Next::EtherType(number) => ether::payload(number, rest),
                Next::Ip { protocol, version } => match protocol {
                    6 => tcp::parse(rest),
                    17 => udp::parse(rest, self.fragment),
                    1 => icmp::parse(rest),
                    2 => igmp::parse(rest),
                    47 => tunnel::gre(rest),
                    58 => icmp6::parse(rest),
                    132 => sctp::parse(rest),
                    _ => ip::payload(protocol, version, rest),
                },
                Next::Link(LinkType::ETHERNET) => ether::parse(rest),
                Next::Link(link_type) => link::parse(link_type, rest),
                Next::TcpData(source, destination) => tcp::data(source, destination, rest),
                Next::UdpData(source, destination) => udp::data(source, destination, rest),
                Next::AnyIp => ip::any(rest),
                Next::Llc => ether::llc(rest),
                Next::Mpls => link::mpls(rest),
                Next::Ppp(number) => link::ppp_payload(number, rest),
                Next::Cut(header) => cut(header),
            };
            self.depth += 1;
            match &layer {
                Some(Layer::Ipv4(header)) => self.fragment = header.more_fragments,
                Some(Layer::Ipv6(_)) => self.fragment = false,
                Some(Layer::Fragment(header)) => self.fragment = header.more,
                _ => {}
            }
            self.next = if self.depth < DEPTH { next } else { Next::Done };
            if self.in_link_header {
                // BSD's loopback header is none that is shown.
                if let None | Some(Layer::Ethernet(_) | Layer::Cooked(_) | Layer::Vlan(_) | Layer::Ppp(_)) =
                    layer
                {
                    self.link_header = self.whole - self.rest.kept().len();
                } else {
                    self.in_link_header = false;
                }
            }
            if layer.is_some() {
                return layer;
            }
        }
    }
}
