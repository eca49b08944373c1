//! Ports of TCP, UDP and SCTP.

use super::*;
use crate::filter::keyword::Protocol;

const TCP: u32 = 6;
const UDP: u32 = 17;
const SCTP: u32 = 132;

/// Which transports a port may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Any,
    Only(u32),
}

/// A port, or a range of them with its ends.
#[derive(Debug, Clone, Copy)]
enum Ports {
    One(u32),
    Range(u32, u32),
}

impl Lowering<'_> {
    pub(super) fn port(&mut self, qualifiers: &Qualifiers, id: &Id) -> Result<Fragment, Error> {
        let asked = self.transport(qualifiers)?;
        let (port, transport) = match id {
            Id::Number(port) => (i64::from(*port), asked),
            Id::Name(name) => {
                let (port, known) = self.named_port(name)?;
                (port, self.agreed(asked, known, name)?)
            }
            _ => return Err(self.error("a port is wanted here")),
        };
        let port = self.checked(port)?;
        self.ports(Ports::One(port), transport, qualifiers)
    }

    pub(super) fn port_range(&mut self, qualifiers: &Qualifiers, id: &Id) -> Result<Fragment, Error> {
        let asked = self.transport(qualifiers)?;
        let (first, last, transport) = match id {
            Id::Number(port) => (i64::from(*port), i64::from(*port), asked),
            Id::Name(name) => {
                let (first, last, known) = self.named_range(name)?;
                (first, last, self.agreed(asked, known, name)?)
            }
            _ => return Err(self.error("a range of ports is wanted here")),
        };
        let (first, last) = (self.checked(first)?, self.checked(last)?);
        self.ports(Ports::Range(first.min(last), first.max(last)), transport, qualifiers)
    }

    /// The transport that the qualifiers ask for.
    fn transport(&self, qualifiers: &Qualifiers) -> Result<Transport, Error> {
        match qualifiers.protocol {
            None => Ok(Transport::Any),
            Some(Protocol::Tcp) => Ok(Transport::Only(TCP)),
            Some(Protocol::Udp) => Ok(Transport::Only(UDP)),
            Some(Protocol::Sctp) => Ok(Transport::Only(SCTP)),
            Some(_) => Err(Error::new(qualifiers.span.clone(), "only tcp, udp and sctp have ports")),
        }
    }

    /// The transport that was asked for, unless the name is known for another one only.
    fn agreed(&self, asked: Transport, known: Transport, name: &str) -> Result<Transport, Error> {
        match (asked, known) {
            (Transport::Any, known) => Ok(known),
            (asked, Transport::Any) => Ok(asked),
            (asked, known) if asked == known => Ok(asked),
            (_, known) => {
                let known = if known == Transport::Only(TCP) { "tcp" } else { "udp" };
                Err(self.error(format!("{:?} is a port of {known}", brief(name))))
            }
        }
    }

    fn checked(&self, port: i64) -> Result<u32, Error> {
        match u16::try_from(port) {
            Ok(port) => Ok(u32::from(port)),
            Err(_) => Err(self.error(format!("{port} is no port: they go from 0 to 65535"))),
        }
    }

    fn named_port(&self, name: &str) -> Result<(i64, Transport), Error> {
        // A number comes here after a backslash.
        if !name.is_empty() && name.bytes().all(|c| c.is_ascii_digit()) {
            return Ok((name.parse().unwrap_or(i64::MAX), Transport::Any));
        }
        let tcp = self.options.names.port(name, "tcp");
        let udp = self.options.names.port(name, "udp");
        match (tcp, udp) {
            (Some(tcp), Some(udp)) if tcp == udp => Ok((i64::from(tcp), Transport::Any)),
            (Some(tcp), _) => Ok((i64::from(tcp), Transport::Only(TCP))),
            (None, Some(udp)) => Ok((i64::from(udp), Transport::Only(UDP))),
            (None, None) => Err(self.error(format!("unknown port {:?}: not in /etc/services", brief(name)))),
        }
    }

    fn named_range(&self, name: &str) -> Result<(i64, i64, Transport), Error> {
        if let Some((first, last)) = numeric_range(name) {
            return Ok((first, last, Transport::Any));
        }
        let Some((first, last)) = name.split_once('-') else {
            return Err(self.error(format!(
                "{:?} is no range of ports: two ports with a hyphen between them are",
                brief(name)
            )));
        };
        let (first, one) = self.named_port(first)?;
        let (last, other) = self.named_port(last)?;
        Ok((first, last, if one == other { one } else { Transport::Any }))
    }

    /// IPv6's packets are asked about before IPv4's.
    fn ports(
        &mut self,
        ports: Ports,
        transport: Transport,
        qualifiers: &Qualifiers,
    ) -> Result<Fragment, Error> {
        let v6 = self.ports_over(ports, transport, qualifiers, true)?;
        let v4 = self.ports_over(ports, transport, qualifiers, false)?;
        Ok(self.graph.or(v6, v4))
    }

    /// The ports over one version of IP.
    fn ports_over(
        &mut self,
        ports: Ports,
        transport: Transport,
        qualifiers: &Qualifiers,
        v6: bool,
    ) -> Result<Fragment, Error> {
        let typed = self.link_type(if v6 { link::ETHERTYPE_IP6 } else { link::ETHERTYPE_IP })?;
        let transports: &[u32] = match transport {
            Transport::Only(TCP) => &[TCP],
            Transport::Only(UDP) => &[UDP],
            Transport::Only(_) => &[SCTP],
            // The order of libpcap.
            Transport::Any => &[SCTP, TCP, UDP],
        };
        let mut fragments = Vec::new();
        for transport in transports {
            let carried = self.equals(Base::Network, if v6 { 6 } else { 9 }, bpf::B, *transport);
            let carried = if v6 {
                carried
            } else {
                let whole = self.first_fragment();
                self.graph.and(carried, whole)
            };
            let there = self.directed(qualifiers.direction, |this, is_src| {
                let base = if v6 { Base::TransportV6 } else { Base::TransportV4 };
                let offset = if is_src { 0 } else { 2 };
                Ok(match ports {
                    Ports::One(port) => this.equals(base, offset, bpf::H, port),
                    Ports::Range(first, last) => {
                        let from = this.compare(base, offset, bpf::H, Compare::GreaterOrEqual, first);
                        let to = this.compare(base, offset, bpf::H, Compare::Greater, last).not();
                        this.graph.and(from, to)
                    }
                })
            })?;
            fragments.push(self.graph.and(carried, there));
        }
        let any = self.any(fragments);
        Ok(self.graph.and(typed, any))
    }

    /// The UDP port that Geneve is carried on, over one version of IP.
    pub(super) fn geneve_port(&mut self, v6: bool) -> Result<Fragment, Error> {
        const PORT: u32 = 6081;
        let qualifiers = Qualifiers {
            protocol: None,
            direction: crate::filter::ast::Direction::Dst,
            kind: Kind::Port,
            span: self.span.clone(),
        };
        self.ports_over(Ports::One(PORT), Transport::Only(UDP), &qualifiers, v6)
    }

    /// Whether an IPv4 packet is whole or the first of its fragments.
    pub(super) fn first_fragment(&mut self) -> Fragment {
        self.compare(Base::Network, 6, bpf::H, Compare::AnyBit, 0x1fff).not()
    }
}

/// Two numbers with a hyphen between them, read as scanf(3) reads `%d-%d`: what follows is not looked at.
fn numeric_range(name: &str) -> Option<(i64, i64)> {
    let (first, rest) = scanned(name)?;
    let (last, _) = scanned(rest.strip_prefix('-')?)?;
    Some((first, last))
}

fn scanned(text: &str) -> Option<(i64, &str)> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return None;
    }
    let length = text.len() - unsigned.len() + digits;
    Some((text[..length].parse().unwrap_or(i64::MAX), &text[length..]))
}
