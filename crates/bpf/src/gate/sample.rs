//! Packets that are made to try a gate on, and what its rules say of them: the same decision as c/fault.c, taken purely.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rule::{Direction, Protocol, Rule};

/// A packet with a whole header; not a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) direction: Direction,
    /// The two ends, of one family.
    pub(super) peer: IpAddr,
    pub(super) own: IpAddr,
    /// `None`: a protocol that no rule can ask for.
    pub(super) protocol: Option<Protocol>,
    pub(super) peer_port: u16,
    pub(super) own_port: u16,
    /// A TCP segment with SYN and without ACK.
    pub(super) opening: bool,
}

/// Addresses for what a rule does not ask for: of the ranges for documentation (RFC 5737, RFC 3849).
const OWN4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

impl Sample {
    /// A packet that has all that a rule asks for.
    pub(super) fn of(rule: &Rule) -> Sample {
        let peer =
            rule.peers.first().map_or(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), |network| network.address);
        let own = if peer.is_ipv4() { OWN4.into() } else { OWN6.into() };
        let ports = rule.ports.peer.is_some() || rule.ports.own.is_some() || rule.opening;
        Sample {
            direction: rule.direction,
            peer,
            own,
            protocol: rule.protocol.or(ports.then_some(Protocol::Tcp)),
            peer_port: rule.ports.peer.unwrap_or(49153),
            own_port: rule.ports.own.unwrap_or(49152),
            opening: rule.opening,
        }
    }

    /// The number of the rule that has it, counted among those of its direction.
    pub(super) fn decide(&self, rules: &[Rule]) -> Option<usize> {
        rules.iter().filter(|rule| rule.direction == self.direction).position(|rule| self.matches(rule))
    }

    fn matches(&self, rule: &Rule) -> bool {
        let has_ports = matches!(self.protocol, Some(Protocol::Tcp | Protocol::Udp));
        let port = |asked: Option<u16>, is: u16| asked.is_none_or(|asked| has_ports && asked == is);
        (rule.peers.is_empty() || rule.peers.iter().any(|network| network.contains(self.peer)))
            && rule.protocol.is_none_or(|asked| self.protocol == Some(asked))
            && port(rule.ports.peer, self.peer_port)
            && port(rule.ports.own, self.own_port)
            && (!rule.opening || (self.protocol == Some(Protocol::Tcp) && self.opening))
    }

    /// Source and destination.
    fn ordered<T>(&self, own: T, peer: T) -> (T, T) {
        match self.direction {
            Direction::Out => (own, peer),
            Direction::In => (peer, own),
        }
    }

    /// The frame. Checksums are zero: a gate does not look at them.
    pub(super) fn frame(&self) -> Vec<u8> {
        let (source_port, destination_port) = self.ordered(self.own_port, self.peer_port);
        let ports = [source_port.to_be_bytes(), destination_port.to_be_bytes()].concat();
        let payload = match self.protocol {
            Some(Protocol::Tcp) => {
                let flags = if self.opening { 0x02 } else { 0x12 };
                [&ports[..], &[0; 8], &[0x50, flags, 0, 0, 0, 0, 0, 0]].concat()
            }
            Some(Protocol::Udp) => [&ports[..], &[0, 12, 0, 0], b"data"].concat(),
            // An echo request, of either family's type.
            Some(Protocol::Icmp) => vec![if self.own.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 0, 0, 1],
            None => vec![0; 8],
        };
        // What no rule can ask for is GRE.
        let number = |icmp: u8| match self.protocol {
            Some(Protocol::Tcp) => 6,
            Some(Protocol::Udp) => 17,
            Some(Protocol::Icmp) => icmp,
            None => 47,
        };
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        // Payloads are a few bytes: the lengths fit.
        let length = payload.len() as u16;
        match (self.own, self.peer) {
            (IpAddr::V6(own), IpAddr::V6(peer)) => {
                let (source, destination) = self.ordered(own.octets().to_vec(), peer.octets().to_vec());
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([number(58), 64]);
                frame.extend([source, destination].concat());
            }
            (own, peer) => {
                let octets = |address| match address {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(_) => OWN4.octets().to_vec(),
                };
                let (source, destination) = self.ordered(octets(own), octets(peer));
                frame.extend([0x08, 0x00, 0x45, 0]);
                frame.extend((length + 20).to_be_bytes());
                frame.extend([0, 1, 0, 0, 64, number(1), 0, 0]);
                frame.extend([source, destination].concat());
            }
        }
        frame.extend(payload);
        frame
    }
}
