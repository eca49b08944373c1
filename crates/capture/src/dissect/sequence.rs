//! Relative sequence numbers, as tcpdump shows them: counted from the first segment of a connection that carries an
//! acknowledgement, which itself is shown with the numbers of the wire.
//!
//! The table has a fixed number of places, four for each hash value, of which the one that was silent longest gives
//! way. A connection that lost its place starts anew, as it would after a capture's beginning. Nothing that a packet
//! can contain makes the table grow, or a search in it long.

use std::net::IpAddr;

use super::layers::{Layer, Layers};
use super::tcp::TcpFlags;
use crate::names::mix;
use crate::packet::{LinkType, Packet};

/// What is subtracted from a segment's numbers before they are shown. The default shows those of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Base {
    /// From the sequence number.
    pub seq: u32,
    /// From the acknowledgement number, and from the edges of selective acknowledgements.
    pub ack: u32,
}

const WAYS: usize = 4;

/// The beginnings of connections. To be asked for each packet of a capture, in order; what it answers can be used on
/// another thread.
#[derive(Debug, Clone)]
pub struct Sequences {
    places: Vec<[Place; WAYS]>,
    now: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Key {
    /// The lower end's address, then the other's.
    addresses: [u128; 2],
    ports: [u16; 2],
    interface: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    key: Key,
    /// The first number of the lower end, then the other's.
    first: [u32; 2],
    /// When it was last looked at; 0 is never.
    used: u64,
}

impl Sequences {
    /// Room for this many connections, rounded up to a power of two.
    pub fn new(connections: usize) -> Self {
        let sets = connections.div_ceil(WAYS).next_power_of_two();
        Sequences { places: vec![[Place::default(); WAYS]; sets], now: 0 }
    }

    /// The numbers to subtract from this packet's, if it is a segment of TCP.
    #[inline]
    pub fn base(&mut self, link_type: LinkType, packet: &Packet<'_>) -> Base {
        let mut pair = None;
        for layer in Layers::of(link_type, packet) {
            match layer {
                Layer::Ipv4(ip) => pair = Some((IpAddr::V4(ip.source), IpAddr::V4(ip.destination))),
                Layer::Ipv6(ip) => pair = Some((IpAddr::V6(ip.source), IpAddr::V6(ip.destination))),
                Layer::Tcp(tcp) if tcp.flags.any(TcpFlags::ACK) => {
                    let Some((source, destination)) = pair else { break };
                    let from = (number(source), tcp.source);
                    let to = (number(destination), tcp.destination);
                    let start = tcp.flags.any(TcpFlags::SYN);
                    return self.find(packet.interface as u32, from, to, [tcp.seq, tcp.ack], start);
                }
                Layer::Tcp(_) | Layer::Arp(_) | Layer::Icmp(_) | Layer::Dns(_) => break,
                _ => {}
            }
        }
        Base::default()
    }

    fn find(
        &mut self,
        interface: u32,
        from: (u128, u16),
        to: (u128, u16),
        [seq, ack]: [u32; 2],
        start: bool,
    ) -> Base {
        let turned = from > to;
        let (low, high) = if turned { (to, from) } else { (from, to) };
        let key = Key { addresses: [low.0, high.0], ports: [low.1, high.1], interface };
        self.now += 1;
        let hash = key.hash();
        let at = (hash >> 32) as usize & (self.places.len() - 1);
        let Some(set) = self.places.get_mut(at) else { return Base::default() };
        let found = set.iter_mut().find(|place| place.used != 0 && place.key == key);
        let [low_first, high_first] =
            if turned { [ack.wrapping_sub(1), seq] } else { [seq, ack.wrapping_sub(1)] };
        match found {
            Some(place) if !start => {
                place.used = self.now;
                let [low, high] = place.first;
                if turned { Base { seq: high, ack: low } } else { Base { seq: low, ack: high } }
            }
            found => {
                let place = match found {
                    Some(place) => Some(place),
                    None => set.iter_mut().min_by_key(|place| place.used),
                };
                if let Some(place) = place {
                    *place = Place { key, first: [low_first, high_first], used: self.now };
                }
                Base::default()
            }
        }
    }
}

impl Key {
    fn hash(&self) -> u64 {
        let ports =
            u64::from(self.ports[0]) << 48 | u64::from(self.ports[1]) << 32 | u64::from(self.interface);
        self.addresses.iter().fold(mix(0, ports), |hash, address| {
            let hash = mix(hash, *address as u64);
            if *address >> 64 == 0 { hash } else { mix(hash, (*address >> 64) as u64) }
        })
    }
}

/// An address as a number; IPv4's as the mapped one.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => 0xffff_0000_0000 | u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}
