//! Protocols, by their own word (`tcp`), by number or name (`ip proto 47`, `ether proto 0x88cc`), and at the end of a
//! chain of headers (`ip6 protochain 6`).

use super::*;
use crate::filter::keyword::Protocol;

/// Network layer protocols of OSI, in the first byte of their header.
const CLNP: u32 = 0x81;
const ESIS: u32 = 0x82;
const ISIS: u32 = 0x83;

/// IS-IS's kinds of PDU.
mod pdu {
    pub(super) const L1_LAN_HELLO: u32 = 15;
    pub(super) const L2_LAN_HELLO: u32 = 16;
    pub(super) const PTP_HELLO: u32 = 17;
    pub(super) const L1_LSP: u32 = 18;
    pub(super) const L2_LSP: u32 = 20;
    pub(super) const L1_CSNP: u32 = 24;
    pub(super) const L2_CSNP: u32 = 25;
    pub(super) const L1_PSNP: u32 = 26;
    pub(super) const L2_PSNP: u32 = 27;
}

impl Lowering<'_> {
    /// A protocol's word alone.
    pub(super) fn protocol(&mut self, protocol: Protocol) -> Result<Fragment, Error> {
        use Protocol as P;
        match protocol {
            P::Sctp => self.over_any_ip(132),
            P::Tcp => self.over_any_ip(6),
            P::Udp => self.over_any_ip(17),
            P::Icmp => self.over_v4(1),
            P::Igmp => self.over_v4(2),
            P::Igrp => self.over_v4(9),
            P::Pim => self.over_any_ip(103),
            P::Vrrp | P::Carp => self.over_v4(112),
            P::Icmp6 => self.over_v6(58),
            P::Ah => self.over_any_ip(51),
            P::Esp => self.over_any_ip(50),
            P::Ip => self.link_type(link::ETHERTYPE_IP),
            P::Ip6 => self.link_type(link::ETHERTYPE_IP6),
            P::Arp => self.link_type(link::ETHERTYPE_ARP),
            P::Rarp => self.link_type(link::ETHERTYPE_RARP),
            P::Atalk => self.link_type(link::ETHERTYPE_ATALK),
            P::Aarp => self.link_type(link::ETHERTYPE_AARP),
            P::Decnet => self.link_type(link::ETHERTYPE_DECNET),
            P::Sca => self.link_type(link::ETHERTYPE_SCA),
            P::Lat => self.link_type(link::ETHERTYPE_LAT),
            P::Mopdl => self.link_type(link::ETHERTYPE_MOPDL),
            P::Moprc => self.link_type(link::ETHERTYPE_MOPRC),
            P::Stp => self.link_type(link::SAP_STP),
            P::Ipx => self.link_type(link::SAP_IPX),
            P::Netbeui => self.link_type(link::SAP_NETBEUI),
            P::Iso => self.link_type(link::SAP_ISO),
            P::Clnp => self.over_osi(CLNP),
            P::Esis => self.over_osi(ESIS),
            P::Isis => self.over_osi(ISIS),
            // The order is libpcap's: each further kind is asked for before those that are there.
            P::IsisL1 => {
                self.isis(&[pdu::L1_PSNP, pdu::L1_CSNP, pdu::L1_LSP, pdu::L1_LAN_HELLO, pdu::PTP_HELLO])
            }
            P::IsisL2 => {
                self.isis(&[pdu::L2_PSNP, pdu::L2_CSNP, pdu::L2_LSP, pdu::L2_LAN_HELLO, pdu::PTP_HELLO])
            }
            P::IsisIih => self.isis(&[pdu::PTP_HELLO, pdu::L1_LAN_HELLO, pdu::L2_LAN_HELLO]),
            P::IsisLsp => self.isis(&[pdu::L1_LSP, pdu::L2_LSP]),
            P::IsisSnp => self.isis(&[pdu::L2_PSNP, pdu::L1_PSNP, pdu::L1_CSNP, pdu::L2_CSNP]),
            P::IsisCsnp => self.isis(&[pdu::L1_CSNP, pdu::L2_CSNP]),
            P::IsisPsnp => self.isis(&[pdu::L1_PSNP, pdu::L2_PSNP]),
            P::Link => Err(self.error("the link itself is no protocol that a packet could be of")),
            P::Radio => Err(self.error("only wireless (802.11) frames have this")),
        }
    }

    fn over_any_ip(&mut self, number: u32) -> Result<Fragment, Error> {
        let v4 = self.over_v4(number)?;
        let v6 = self.over_v6(number)?;
        Ok(self.graph.or(v4, v6))
    }

    fn over_v4(&mut self, number: u32) -> Result<Fragment, Error> {
        let typed = self.link_type(link::ETHERTYPE_IP)?;
        let carried = self.equals(Base::Network, 9, bpf::B, number);
        Ok(self.graph.and(typed, carried))
    }

    /// The next header, or the one after a fragment header.
    fn over_v6(&mut self, number: u32) -> Result<Fragment, Error> {
        const FRAGMENT: u32 = 44;
        let typed = self.link_type(link::ETHERTYPE_IP6)?;
        let next = self.equals(Base::Network, 6, bpf::B, number);
        let fragment = self.equals(Base::Network, 6, bpf::B, FRAGMENT);
        let after = self.equals(Base::Network, 40, bpf::B, number);
        let fragment = self.graph.and(fragment, after);
        let any = self.graph.or(next, fragment);
        Ok(self.graph.and(typed, any))
    }

    fn over_osi(&mut self, number: u32) -> Result<Fragment, Error> {
        let typed = self.link_type(link::SAP_ISO)?;
        let carried = self.equals(Base::NetworkAfterLlc, 0, bpf::B, number);
        Ok(self.graph.and(typed, carried))
    }

    fn over_isis(&mut self, number: u32) -> Result<Fragment, Error> {
        let typed = self.over_osi(ISIS)?;
        let kind = self.equals(Base::NetworkAfterLlc, 4, bpf::B, number);
        Ok(self.graph.and(typed, kind))
    }

    fn isis(&mut self, kinds: &[u32]) -> Result<Fragment, Error> {
        let fragments = kinds.iter().map(|kind| self.over_isis(*kind)).collect::<Result<Vec<_>, _>>()?;
        Ok(self.any(fragments))
    }

    /// `proto` and a number or a name.
    pub(super) fn proto(&mut self, qualifiers: &Qualifiers, id: &Id) -> Result<Fragment, Error> {
        let number = self.protocol_number(qualifiers, id)?;
        match qualifiers.protocol {
            None => self.over_any_ip(number),
            Some(Protocol::Link) => self.link_type(number),
            Some(Protocol::Ip) => self.over_v4(number),
            Some(Protocol::Ip6) => self.over_v6(number),
            Some(Protocol::Iso) => self.over_osi(number),
            Some(Protocol::Isis) => self.over_isis(number),
            Some(_) => Err(Error::new(
                qualifiers.span.clone(),
                "only ether, ip, ip6, iso and isis say which protocol they carry",
            )),
        }
    }

    /// `protochain` and a number or a name.
    pub(super) fn proto_chain(&mut self, qualifiers: &Qualifiers, id: &Id) -> Result<Fragment, Error> {
        let number = self.protocol_number(qualifiers, id)?;
        match qualifiers.protocol {
            None => {
                let v4 = self.headers(number, false)?;
                let v6 = self.headers(number, true)?;
                Ok(self.graph.or(v4, v6))
            }
            Some(Protocol::Ip) => self.headers(number, false),
            Some(Protocol::Ip6) => self.headers(number, true),
            Some(_) => Err(Error::new(qualifiers.span.clone(), "only ip and ip6 have chains of headers")),
        }
    }

    fn headers(&mut self, wanted: u32, v6: bool) -> Result<Fragment, Error> {
        if self.layout.payload.cell.is_some() {
            return Err(self.error("a chain of headers cannot be followed behind headers of variable length"));
        }
        let typed = self.link_type(if v6 { link::ETHERTYPE_IP6 } else { link::ETHERTYPE_IP })?;
        let network = self.layout.payload.constant.wrapping_add(self.layout.network);
        let cell = bpf::CELLS as u32 - 1;
        self.scratch = self.scratch.min(cell);
        if self.cells >= self.scratch {
            return Err(self.error("too many headers of variable length before this"));
        }
        let steps = vec![Step::Headers { v6, network, wanted, cell }];
        let found = self.graph.block(steps, Test::Constant(Compare::Equal, wanted));
        Ok(self.graph.and(typed, found))
    }

    /// What a protocol's name stands for; that depends on who carries it.
    fn protocol_number(&self, qualifiers: &Qualifiers, id: &Id) -> Result<u32, Error> {
        let name = match id {
            Id::Number(number) => return Ok(*number),
            Id::Name(name) => name,
            _ => return Err(self.error("a protocol is wanted here")),
        };
        match qualifiers.protocol {
            None | Some(Protocol::Ip | Protocol::Ip6) => match self.options.names.protocol(name) {
                Some(number) => Ok(u32::from(number)),
                None => Err(self.error(format!("unknown protocol {:?}: not in /etc/protocols", brief(name)))),
            },
            Some(Protocol::Link) => Ok(match name.as_str() {
                "aarp" => link::ETHERTYPE_AARP,
                "arp" => link::ETHERTYPE_ARP,
                "atalk" => link::ETHERTYPE_ATALK,
                "decnet" => link::ETHERTYPE_DECNET,
                "ip" => link::ETHERTYPE_IP,
                "ip6" => link::ETHERTYPE_IP6,
                "lat" => link::ETHERTYPE_LAT,
                "loopback" => link::ETHERTYPE_LOOPBACK,
                "mopdl" => link::ETHERTYPE_MOPDL,
                "moprc" => link::ETHERTYPE_MOPRC,
                "rarp" => link::ETHERTYPE_RARP,
                "sca" => link::ETHERTYPE_SCA,
                "iso" => link::SAP_ISO,
                "stp" => link::SAP_STP,
                "ipx" => link::SAP_IPX,
                "netbeui" => link::SAP_NETBEUI,
                _ => return Err(self.error(format!("unknown Ethernet protocol {:?}", brief(name)))),
            }),
            Some(Protocol::Iso) => match name.as_str() {
                "esis" => Ok(ESIS),
                "isis" => Ok(ISIS),
                "clnp" => Ok(CLNP),
                _ => Err(self.error(format!("unknown OSI protocol {:?}", brief(name)))),
            },
            Some(_) => Err(self.error(format!("unknown protocol {:?}", brief(name)))),
        }
    }
}
