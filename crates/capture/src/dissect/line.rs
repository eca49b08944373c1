//! The text of a packet's headers, in its line behind the columns.
//!
//! ```text
//! 14:02:11.123456 web/eth0 out web:43210 > api:80 TCP [P.] seq 1:78 ack 1 win 502 length 77: HTTP GET /pay HTTP/1.1, host shop
//! ```
//!
//! Time, link and direction stand in columns; then who speaks to whom; then what, in tcpdump's notation where tcpdump
//! has one. What encloses something else says so with a colon.

use std::net::IpAddr;

use super::ether::Ethernet;
use super::ip::{Fragment, Pair, protocol_name};
use super::layers::{Layer, NumberOf};
use super::printer::Style;
use super::sequence::Base;
use super::{Layer as L, text};
use crate::names::Names;

/// What a layer needs to know to write itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'v> {
    pub(crate) names: &'v Names,
    pub(crate) interface: usize,
    pub(crate) style: &'v Style,
    pub(crate) base: Base,
}

impl View<'_> {
    /// The name of whose address it is, else the address.
    #[inline]
    pub(crate) fn ip(&self, out: &mut Vec<u8>, address: IpAddr) {
        match self.names.of(self.interface, address) {
            Some(name) => text::put(out, name),
            None => text::ip(out, address),
        }
    }

    fn mac(&self, out: &mut Vec<u8>, address: [u8; 6]) {
        match self.names.of_mac(self.interface, address) {
            Some(name) => text::put(out, name),
            None => text::mac(out, address),
        }
    }

    /// Address and port, as they are written everywhere else: `web:80`, `10.0.0.1:80`, `[fd00::1]:80`.
    #[inline]
    fn endpoint(&self, out: &mut Vec<u8>, address: IpAddr, port: u16) {
        match (self.names.of(self.interface, address), address) {
            (Some(name), _) => text::put(out, name),
            (None, IpAddr::V4(address)) => text::ipv4(out, address),
            (None, IpAddr::V6(address)) => {
                out.push(b'[');
                text::ipv6(out, address);
                out.push(b']');
            }
        }
        out.push(b':');
        text::decimal(out, u32::from(port));
    }
}

/// The part of a line behind its columns, while it is being written.
pub(super) struct Body<'v> {
    view: View<'v>,
    original_length: u32,
    ethernet: Option<Ethernet>,
    /// Addresses that wait for their ports, and the protocol that is to follow.
    pair: Option<(Pair, u8)>,
    /// The fragment whose beginning is being shown.
    fragment: Option<Fragment>,
    /// Where the words for UDP begin, which give way to what the datagram carries.
    udp: Option<usize>,
}

impl<'v> Body<'v> {
    pub(super) fn new(view: View<'v>, original_length: u32) -> Self {
        Body { view, original_length, ethernet: None, pair: None, fragment: None, udp: None }
    }

    #[inline]
    pub(super) fn layer(&mut self, layer: &Layer<'_>, out: &mut Vec<u8>) {
        let view = self.view;
        match layer {
            L::Ethernet(ethernet) => {
                self.ethernet = Some(*ethernet);
                if view.style.link_header {
                    self.hardware(out);
                }
            }
            L::Ipv4(ip) => {
                let pair = Pair { source: ip.source.into(), destination: ip.destination.into() };
                self.begin_ip(pair, ip.protocol, ip.missing, out);
                if view.style.verbose {
                    ip.details(out);
                }
                if let Some(fragment) = ip.fragment() {
                    self.begin_fragment(fragment, out);
                }
            }
            L::Ipv6(ip) => {
                let pair = Pair { source: ip.source.into(), destination: ip.destination.into() };
                self.begin_ip(pair, ip.next_header, ip.missing, out);
                if view.style.verbose {
                    ip.details(out);
                }
            }
            L::Tcp(tcp) => {
                self.ports(tcp.source, tcp.destination, out);
                tcp.line(&view, out);
            }
            L::Udp(udp) => {
                self.ports(udp.source, udp.destination, out);
                self.udp = Some(out.len());
                udp.line(out);
            }
            L::Http(http) => {
                text::put(out, ": ");
                http.line(out);
            }
            L::Tls(tls) => {
                text::put(out, ": ");
                tls.line(out);
            }
            L::Dns(dns) => {
                match self.udp.take() {
                    Some(udp) => out.truncate(udp),
                    None => text::put(out, ": "),
                }
                dns.line(out);
            }
            other => self.rare(other, out),
        }
    }

    fn rare(&mut self, layer: &Layer<'_>, out: &mut Vec<u8>) {
        let view = self.view;
        match layer {
            L::Vlan(vlan) => {
                vlan.line(out);
                out.push(b' ');
            }
            L::Mpls(mpls) => {
                self.flush(out);
                mpls.line(out);
                text::put(out, ": ");
            }
            L::Pppoe(pppoe) => {
                self.hardware_only(out);
                pppoe.line(out);
                text::put(out, ": ");
            }
            L::Cooked(cooked) => {
                if let Some(interface) = cooked.interface.filter(|interface| *interface != 0) {
                    text::put(out, "if");
                    text::decimal(out, interface);
                    out.push(b' ');
                }
            }
            L::Ppp(_) => {}
            L::Extension(extension) => {
                if let Some((_, protocol)) = &mut self.pair {
                    *protocol = extension.next_header;
                }
                if view.style.verbose {
                    extension.line(out);
                }
            }
            L::Fragment(fragment) => self.begin_fragment(*fragment, out),
            L::Ports(source, destination) => self.ports(*source, *destination, out),
            L::Sctp(sctp) => {
                self.ports(sctp.source, sctp.destination, out);
                sctp.line(out);
            }
            L::Tunnel(tunnel) => {
                match self.udp.take() {
                    Some(udp) => out.truncate(udp),
                    None => self.flush(out),
                }
                tunnel.line(out);
                text::put(out, ": ");
            }
            L::Arp(arp) => arp.line(&view, out),
            L::Icmp(icmp) => {
                self.flush(out);
                icmp.line(&view, out);
            }
            L::Icmp6(icmp) => {
                self.flush(out);
                icmp.line(&view, out);
            }
            L::Igmp(igmp) => {
                self.flush(out);
                igmp.line(&view, out);
            }
            L::Esp(esp) => {
                self.flush(out);
                esp.line(out);
            }
            L::Control(control) => {
                self.hardware_only(out);
                control.line(out);
            }
            L::Llc(llc) => {
                self.hardware_only(out);
                text::put(out, "LLC dsap 0x");
                text::hex_byte(out, llc.dsap);
                text::put(out, " ssap 0x");
                text::hex_byte(out, llc.ssap);
                text::put(out, " length ");
                text::length(out, llc.length);
            }
            L::Unknown { of, number, length } => self.unknown(*of, *number, *length, out),
            L::Truncated(header) => {
                self.flush(out);
                text::put(out, if out.ends_with(b" ") { "[|" } else { " [|" });
                text::put(out, header);
                out.push(b']');
            }
            L::Malformed(what, value) => {
                self.flush(out);
                text::put(out, if out.ends_with(b" ") { "[bad " } else { " [bad " });
                text::put(out, what);
                out.push(b' ');
                text::decimal(out, *value);
                out.push(b']');
            }
            _ => {}
        }
    }

    /// A packet of IP begins, perhaps inside of another.
    #[inline]
    fn begin_ip(&mut self, pair: Pair, protocol: u8, missing: u16, out: &mut Vec<u8>) {
        if self.pair.is_some() {
            self.flush(out);
            text::put(out, "IPIP: ");
        }
        if missing != 0 {
            text::put(out, "truncated-ip - ");
            text::decimal(out, u32::from(missing));
            text::put(out, " bytes missing! ");
        }
        self.pair = Some((pair, protocol));
    }

    /// The first fragment is shown as what it is, with a note behind it; of the others nothing more is known.
    fn begin_fragment(&mut self, fragment: Fragment, out: &mut Vec<u8>) {
        if let Some((_, protocol)) = &mut self.pair {
            *protocol = fragment.protocol;
        }
        if fragment.offset == 0 {
            self.fragment = Some(fragment);
        } else {
            self.flush(out);
            protocol_name(out, fragment.protocol);
            out.push(b' ');
            fragment.line(out);
        }
    }

    /// Addresses with ports.
    #[inline]
    fn ports(&mut self, source: u16, destination: u16, out: &mut Vec<u8>) {
        let Some((pair, _)) = self.pair.take() else { return };
        self.view.endpoint(out, pair.source, source);
        text::put(out, " > ");
        self.view.endpoint(out, pair.destination, destination);
        out.push(b' ');
    }

    /// Addresses that have no ports.
    fn flush(&mut self, out: &mut Vec<u8>) {
        let Some((pair, _)) = self.pair.take() else { return };
        self.view.ip(out, pair.source);
        text::put(out, " > ");
        self.view.ip(out, pair.destination);
        out.push(b' ');
    }

    fn unknown(&mut self, of: NumberOf, number: u32, length: usize, out: &mut Vec<u8>) {
        match of {
            NumberOf::IpProtocol => {
                self.flush(out);
                protocol_name(out, number as u8);
            }
            NumberOf::EtherType => {
                self.hardware_only(out);
                text::put(out, "ethertype ");
                text::hex_word(out, number as u16);
            }
            NumberOf::Ppp => {
                text::put(
                    out,
                    match number {
                        0xc021 => "LCP ",
                        0xc023 => "PAP ",
                        0xc223 => "CHAP ",
                        0x8021 => "IPCP ",
                        0x8057 => "IPV6CP ",
                        _ => "",
                    },
                );
                text::put(out, "ppp protocol ");
                text::hex_word(out, number as u16);
            }
            NumberOf::LinkType => {
                text::put(out, "link type ");
                text::decimal(out, number);
            }
            NumberOf::Family => {
                text::put(out, "address family ");
                text::decimal(out, number);
            }
        }
        text::put(out, " length ");
        text::length(out, length);
    }

    /// Hardware addresses of what has no others, unless they stand there already.
    fn hardware_only(&mut self, out: &mut Vec<u8>) {
        if let (false, Some(ethernet)) = (self.view.style.link_header, self.ethernet.take()) {
            self.view.mac(out, ethernet.source);
            text::put(out, " > ");
            self.view.mac(out, ethernet.destination);
            out.push(b' ');
        }
    }

    /// Hardware addresses and the length of the whole frame.
    fn hardware(&mut self, out: &mut Vec<u8>) {
        let Some(ethernet) = self.ethernet.take() else { return };
        self.view.mac(out, ethernet.source);
        text::put(out, " > ");
        self.view.mac(out, ethernet.destination);
        text::put(out, " length ");
        text::decimal(out, self.original_length);
        text::put(out, ": ");
    }

    pub(super) fn end(mut self, out: &mut Vec<u8>) {
        if let Some((_, protocol)) = self.pair {
            self.flush(out);
            protocol_name(out, protocol);
        }
        if let Some(fragment) = self.fragment {
            text::put(out, " (");
            fragment.line(out);
            out.push(b')');
        }
    }
}
