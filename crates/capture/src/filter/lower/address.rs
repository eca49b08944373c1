//! Hosts and networks: `host web`, `net 10.1/16`, `ether src 02:42:ac:11:00:02`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::LinkType;
use crate::filter::ast::Direction;
use crate::filter::keyword::Protocol;

impl Lowering<'_> {
    /// A host or a network; whatever else the qualifiers ask for does not fit to an address.
    pub(super) fn address(&mut self, qualifiers: &Qualifiers, id: &Id) -> Result<Fragment, Error> {
        match id {
            Id::Name(name) => self.named_address(qualifiers, name),
            Id::Number(number) => {
                self.wants_address(qualifiers)?;
                if qualifiers.protocol == Some(Protocol::Decnet) {
                    self.decnet(*number, qualifiers.direction)
                } else if qualifiers.kind == Kind::Net {
                    let (address, mask) = left_justified(*number);
                    self.v4(qualifiers, address, mask)
                } else {
                    self.v4(qualifiers, *number, u32::MAX)
                }
            }
            Id::Dotted(text) => {
                self.wants_address(qualifiers)?;
                if qualifiers.protocol == Some(Protocol::Decnet) {
                    let address = self.decnet_address(text)?;
                    return self.decnet(address, qualifiers.direction);
                }
                // `host 10.1` is everything in 10.1/16, as `net 10.1` is.
                let (address, bits) = self.dotted(text)?;
                self.v4(qualifiers, address, mask(bits))
            }
            Id::Prefix(text, length) => {
                let (address, _) = self.dotted(text)?;
                if *length > 32 {
                    return Err(self.error("a mask has 32 bits at most"));
                }
                self.network(qualifiers, address, mask(*length))
            }
            Id::Mask(text, other) => {
                let (address, _) = self.dotted(text)?;
                let (mask, _) = self.dotted(other)?;
                self.network(qualifiers, address, mask)
            }
            Id::V6(address) => self.network6(qualifiers, *address, 128),
            Id::V6Prefix(address, length) => self.network6(qualifiers, *address, *length),
            Id::Hardware(address) => {
                if qualifiers.protocol != Some(Protocol::Link)
                    || !matches!(qualifiers.kind, Kind::Unsaid | Kind::Host)
                {
                    return Err(
                        self.error("a hardware address needs 'ether', 'ether src' or 'ether dst' before it")
                    );
                }
                self.ethernet_host(address, qualifiers.direction)
            }
            // Refused before it comes here.
            Id::Arcnet => Err(self.error("only ARCnet has such addresses")),
        }
    }

    fn wants_address(&self, qualifiers: &Qualifiers) -> Result<(), Error> {
        let what = match qualifiers.kind {
            Kind::Unsaid | Kind::Host | Kind::Net => {
                return if qualifiers.protocol == Some(Protocol::Link) {
                    Err(self.error("this is no hardware address"))
                } else {
                    Ok(())
                };
            }
            Kind::Port => "a port",
            Kind::PortRange => "a range of ports",
            Kind::Proto | Kind::ProtoChain => "a protocol",
            Kind::Gateway => return Err(self.no_gateway()),
        };
        Err(self.error(format!("{what} is wanted here, not an address")))
    }

    fn no_gateway(&self) -> Error {
        self.error("'gateway' is not supported: libpcap with IPv6 refuses it too; write 'ether host A and not host B'")
    }

    /// The address of `10.1.2.3`, or `10.1` with the bytes that are left out being 0, and how many bits were given.
    fn dotted(&self, text: &str) -> Result<(u32, u32), Error> {
        let wrong = || self.error(format!("{} is no IPv4 address", brief(text)));
        let mut address = 0;
        let mut bits = 0;
        for part in text.split('.') {
            // Leading zeros do not make it octal, and hexadecimal parts are not known here.
            if !part.bytes().all(|c| c.is_ascii_digit()) {
                return Err(wrong());
            }
            let digits = part.trim_start_matches('0');
            let byte: u8 = if digits.is_empty() { 0 } else { digits.parse().map_err(|_| wrong())? };
            address = address << 8 | u32::from(byte);
            bits += 8;
        }
        Ok((address << (32 - bits), bits))
    }

    fn network(&mut self, qualifiers: &Qualifiers, address: u32, mask: u32) -> Result<Fragment, Error> {
        if address & !mask != 0 {
            return Err(self.error(format!(
                "bits of the address are set that the mask leaves out: the network is {}",
                Ipv4Addr::from(address & mask)
            )));
        }
        if qualifiers.kind != Kind::Net {
            return Err(self.error("only 'net' takes a mask"));
        }
        self.v4(qualifiers, address, mask)
    }

    fn network6(
        &mut self,
        qualifiers: &Qualifiers,
        address: Ipv6Addr,
        length: u32,
    ) -> Result<Fragment, Error> {
        if length > 128 {
            return Err(self.error("a prefix has 128 bits at most"));
        }
        let mask = Ipv6Addr::from(if length == 0 { 0 } else { u128::MAX << (128 - length) });
        if address.to_bits() & !mask.to_bits() != 0 {
            return Err(self.error(format!(
                "bits of the address are set that the prefix leaves out: the network is {}",
                Ipv6Addr::from(address.to_bits() & mask.to_bits())
            )));
        }
        match qualifiers.kind {
            Kind::Unsaid | Kind::Host if length != 128 => Err(self.error("only 'net' takes a prefix")),
            Kind::Unsaid | Kind::Host | Kind::Net => self.v6(qualifiers, address, mask),
            _ => Err(self.error("an address is not wanted here")),
        }
    }

    fn named_address(&mut self, qualifiers: &Qualifiers, name: &str) -> Result<Fragment, Error> {
        match qualifiers.kind {
            Kind::Net => {
                let number = self.options.names.network(name).unwrap_or(0);
                if number == 0 {
                    return Err(
                        self.error(format!("unknown network {:?}: not in /etc/networks", brief(name)))
                    );
                }
                let (address, mask) = left_justified(number);
                self.v4(qualifiers, address, mask)
            }
            Kind::Gateway => Err(self.no_gateway()),
            _ if qualifiers.protocol == Some(Protocol::Link) => {
                if self.layout.link != LinkType::ETHERNET {
                    return Err(self.no_hardware_addresses());
                }
                let Some(address) = self.options.names.hardware(name) else {
                    return Err(
                        self.error(format!("unknown hardware address {:?}: not in /etc/ethers", brief(name)))
                    );
                };
                self.ethernet_host(&address, qualifiers.direction)
            }
            _ if qualifiers.protocol == Some(Protocol::Decnet) => {
                Err(self.error("names of DECnet hosts cannot be looked up"))
            }
            _ => self.named_host(qualifiers, name),
        }
    }

    fn named_host(&mut self, qualifiers: &Qualifiers, name: &str) -> Result<Fragment, Error> {
        let addresses = match numeric(name) {
            Some(address) => vec![address],
            None => self.options.names.host(name),
        };
        if addresses.is_empty() {
            return Err(self.error(format!(
                "unknown host {:?}: no container and no line of /etc/hosts has this name",
                brief(name)
            )));
        }
        // A link without a field for the protocol carries nothing but IP: there are no ARP packets to look for.
        let only_ip = self.layout.protocol.is_none() && qualifiers.protocol.is_none();
        let mut fragments = Vec::new();
        for address in &addresses {
            match address {
                IpAddr::V4(address) => {
                    if qualifiers.protocol == Some(Protocol::Ip6) {
                        continue;
                    }
                    let protocol = if only_ip { Some(Protocol::Ip) } else { qualifiers.protocol };
                    let qualifiers = Qualifiers { protocol, ..qualifiers.clone() };
                    fragments.push(self.v4(&qualifiers, address.to_bits(), u32::MAX)?);
                }
                IpAddr::V6(address) => {
                    if qualifiers.protocol == Some(Protocol::Ip) {
                        continue;
                    }
                    fragments.push(self.v6(qualifiers, *address, Ipv6Addr::from(u128::MAX))?);
                }
            }
        }
        if fragments.is_empty() {
            let family = if qualifiers.protocol == Some(Protocol::Ip) { "IPv4" } else { "IPv6" };
            return Err(self.error(format!("host {:?} has no {family} address", brief(name))));
        }
        Ok(self.any(fragments))
    }

    /// Packets with an IPv4 address: IP packets, and ARP's and RARP's that speak of it.
    fn v4(&mut self, qualifiers: &Qualifiers, address: u32, mask: u32) -> Result<Fragment, Error> {
        let direction = qualifiers.direction;
        Ok(match qualifiers.protocol {
            None => {
                let ip = self.v4_within(link::ETHERTYPE_IP, address, mask, direction, 12, 16)?;
                if self.layout.labels > 0 {
                    return Ok(ip);
                }
                let arp = self.v4_within(link::ETHERTYPE_ARP, address, mask, direction, 14, 24)?;
                let rarp = self.v4_within(link::ETHERTYPE_RARP, address, mask, direction, 14, 24)?;
                // The order of libpcap: RARP is asked for last.
                self.any([ip, arp, rarp])
            }
            Some(Protocol::Ip) => self.v4_within(link::ETHERTYPE_IP, address, mask, direction, 12, 16)?,
            Some(Protocol::Arp) => self.v4_within(link::ETHERTYPE_ARP, address, mask, direction, 14, 24)?,
            Some(Protocol::Rarp) => self.v4_within(link::ETHERTYPE_RARP, address, mask, direction, 14, 24)?,
            Some(Protocol::Decnet) => self.decnet(address, direction)?,
            Some(_) => return Err(self.no_addresses(qualifiers, "IPv4")),
        })
    }

    fn v4_within(
        &mut self,
        protocol: u32,
        address: u32,
        mask: u32,
        direction: Direction,
        src: u32,
        dst: u32,
    ) -> Result<Fragment, Error> {
        self.directed(direction, |this, is_src| {
            let typed = this.link_type(protocol)?;
            let offset = if is_src { src } else { dst };
            let there = this.masked(Base::Network, offset, bpf::W, address, mask);
            Ok(this.graph.and(typed, there))
        })
    }

    fn v6(&mut self, qualifiers: &Qualifiers, address: Ipv6Addr, mask: Ipv6Addr) -> Result<Fragment, Error> {
        if !matches!(qualifiers.protocol, None | Some(Protocol::Ip6)) {
            return Err(self.no_addresses(qualifiers, "IPv6"));
        }
        let word = |from: Ipv6Addr, index: u32| (from.to_bits() >> (96 - 32 * index)) as u32;
        self.directed(qualifiers.direction, |this, is_src| {
            let mut fragment = this.link_type(link::ETHERTYPE_IP6)?;
            let offset = if is_src { 8 } else { 24 };
            for index in 0..4 {
                let there = this.masked(
                    Base::Network,
                    offset + 4 * index,
                    bpf::W,
                    word(address, index),
                    word(mask, index),
                );
                fragment = this.graph.and(fragment, there);
            }
            Ok(fragment)
        })
    }

    fn no_addresses(&self, qualifiers: &Qualifiers, family: &str) -> Error {
        Error::new(qualifiers.span.clone(), format!("the protocol named here has no {family} addresses"))
    }

    /// Asks for the source, the destination, either or both.
    pub(super) fn directed(
        &mut self,
        direction: Direction,
        mut ask: impl FnMut(&mut Self, bool) -> Result<Fragment, Error>,
    ) -> Result<Fragment, Error> {
        match direction {
            Direction::Src => ask(self, true),
            Direction::Dst => ask(self, false),
            Direction::Both => {
                let src = ask(self, true)?;
                let dst = ask(self, false)?;
                Ok(self.graph.and(src, dst))
            }
            Direction::Unsaid | Direction::Either => {
                let src = ask(self, true)?;
                let dst = ask(self, false)?;
                Ok(self.graph.or(src, dst))
            }
        }
    }

    fn no_hardware_addresses(&self) -> Error {
        self.error(format!("packets of type {} have no hardware addresses", self.layout.link))
    }

    fn ethernet_host(&mut self, address: &[u8; 6], direction: Direction) -> Result<Fragment, Error> {
        if self.layout.link != LinkType::ETHERNET {
            return Err(self.no_hardware_addresses());
        }
        let there = self.ethernet_address(address, direction)?;
        Ok(self.only_with_link_header(there))
    }

    /// Whether a hardware address is there; without the check that there is a link header at all.
    pub(super) fn ethernet_address(
        &mut self,
        address: &[u8; 6],
        direction: Direction,
    ) -> Result<Fragment, Error> {
        self.directed(direction, |this, is_src| {
            Ok(this.bytes(Base::LinkHeader, if is_src { 6 } else { 0 }, address))
        })
    }

    /// DECnet's `area.node`.
    fn decnet_address(&self, text: &str) -> Result<u32, Error> {
        let mut parts = text.split('.');
        // Of three or four parts the first two are taken, as libpcap's scanf(3) does; of the second whatever is decimal.
        let area = parts.next().and_then(|part| part.parse::<u32>().ok());
        let node = parts.next().and_then(|part| {
            let digits = part.bytes().take_while(u8::is_ascii_digit).count();
            part[..digits].parse::<u32>().ok()
        });
        match (area, node) {
            (Some(area), Some(node)) => Ok((area << 10) & 0xfc00 | node & 0x3ff),
            _ => Err(self.error(format!("{} is no DECnet address", brief(text)))),
        }
    }

    /// DECnet's data packets with a long or a short header, with and without a byte of padding before it.
    fn decnet(&mut self, address: u32, direction: Direction) -> Result<Fragment, Error> {
        // On the wire the lower byte comes first.
        let value = u32::from((address as u16).swap_bytes());
        self.directed(direction, |this, is_src| {
            let (short, long) = if is_src { (3, 15) } else { (1, 7) };
            let typed = this.link_type(link::ETHERTYPE_DECNET)?;
            let mut forms = Vec::new();
            for (size, flags, mask, at) in [
                (bpf::H, 0x8106, 0xff07, 3 + long),
                (bpf::B, 0x06, 0x07, 2 + long),
                (bpf::H, 0x8102, 0xff07, 3 + short),
                (bpf::B, 0x02, 0x07, 2 + short),
            ] {
                let form = this.masked(Base::Network, 2, size, flags, mask);
                let there = this.equals(Base::Network, at, bpf::H, value);
                forms.push(this.graph.and(form, there));
            }
            let data = this.decnet_order(forms);
            Ok(this.graph.and(typed, data))
        })
    }

    /// The forms in the order in which libpcap asks for them: each further one is put before those that are there.
    fn decnet_order(&mut self, forms: Vec<Fragment>) -> Fragment {
        let fragments: Vec<Fragment> = forms.into_iter().rev().collect();
        self.any(fragments)
    }
}

/// A network's number with its first byte in the highest bits, and the mask of the bytes that it has.
fn left_justified(number: u32) -> (u32, u32) {
    let mut address = number;
    let mut mask = u32::MAX;
    while address != 0 && address & 0xff00_0000 == 0 {
        address <<= 8;
        mask <<= 8;
    }
    (address, mask)
}

/// The mask of this many bits, at most 32.
fn mask(bits: u32) -> u32 {
    if bits == 0 { 0 } else { u32::MAX << (32 - bits) }
}

/// An address that stands in a name's place (after a backslash): in one of inet_aton(3)'s forms, or IPv6's.
fn numeric(name: &str) -> Option<IpAddr> {
    if let Ok(address) = name.parse() {
        return Some(IpAddr::V6(address));
    }
    let parts: Vec<u32> = name.split('.').map(c_number).collect::<Option<_>>()?;
    let (last, bytes) = parts.split_last()?;
    if bytes.len() > 3 || bytes.iter().any(|byte| *byte > 255) {
        return None;
    }
    // The last part takes what the others leave.
    let room = 32 - 8 * bytes.len() as u32;
    if u64::from(*last) >> room != 0 {
        return None;
    }
    let high = bytes.iter().fold(0u64, |high, byte| high << 8 | u64::from(*byte));
    Some(IpAddr::V4(Ipv4Addr::from_bits((high << room) as u32 | last)))
}

/// A number as in C.
fn c_number(text: &str) -> Option<u32> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', _, ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        [b'0'..=b'9', ..] => (text, 10),
        _ => return None,
    };
    // from_str_radix takes a sign, C's inet_aton not after a prefix.
    if !digits.bytes().all(|c| c.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}
