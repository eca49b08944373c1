//! What connections there were in a capture, and how they fared: who spoke to whom, how much each way, how long the
//! handshake took, what was sent again, what was reset.
//!
//! A packet belongs to the innermost flow that it carries, and is counted once; its bytes are those of the whole frame
//! on the link. The two sightings of a packet on two interfaces are two flows. Memory is bounded: when there are too
//! many flows, the one that was silent longest is taken out, and only its sums are kept.

mod segments;
mod table;

use std::net::IpAddr;

use serde::{Serialize, Serializer};

pub use self::segments::{Handshake, Sender, TcpHealth};
use self::table::Table;
use crate::dissect::{Layer, Layers, Tcp};
use crate::packet::{LinkType, Packet, Timestamp};

/// One end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct End {
    /// Its address.
    pub address: IpAddr,
    /// Its port; none of protocols that have none, and of fragments that do not tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How many packets.
    pub packets: u64,
    /// Bytes of the whole frames on the link.
    pub bytes: u64,
}

/// A flow: all that two ends said to each other with one protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Where it was seen: the number of the capture's interface.
    pub interface: usize,
    /// The protocol's number in IP; 6 is TCP.
    pub protocol: u8,
    /// Who began: who sent the SYN if that was seen, else who was seen first.
    pub client: End,
    /// Who was spoken to.
    pub server: End,
    /// What the client sent.
    pub sent: Count,
    /// What the server sent.
    pub received: Count,
    /// When its first packet was seen.
    #[serde(serialize_with = "nanoseconds")]
    pub first: Timestamp,
    /// When its last packet was seen; packets of files are not always in order, so it may be an earlier one.
    #[serde(serialize_with = "nanoseconds")]
    pub last: Timestamp,
    /// How the connection fared, of TCP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpHealth>,
}

fn nanoseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.0)
}

impl Flow {
    /// Packets and bytes both ways.
    pub fn total(&self) -> Count {
        Count {
            packets: self.sent.packets + self.received.packets,
            bytes: self.sent.bytes + self.received.bytes,
        }
    }

    /// Nanoseconds between its first packet and its last.
    pub fn duration(&self) -> u64 {
        self.last.0.saturating_sub(self.first.0)
    }
}

/// All flows of a capture.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The flows, the one of most bytes first.
    pub flows: Vec<Flow>,
    /// How many flows were taken out because there were too many: they are not in the list.
    pub evicted: u64,
    /// What those had carried.
    pub evicted_total: Count,
    /// Packets that belong to no flow: not of IP, or cut off before their addresses.
    pub other: Count,
}

/// What makes a flow: the lower end first, so that both directions find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    interface: usize,
    protocol: u8,
    ends: [End; 2],
}

/// The flows of a capture while its packets are counted.
#[derive(Debug, Clone)]
pub struct Flows {
    table: Table<Key, Flow>,
    evicted: u64,
    evicted_total: Count,
    other: Count,
}

impl Flows {
    /// At most so many flows are kept at once; each takes some 400 bytes.
    pub fn new(most: usize) -> Self {
        Flows {
            table: Table::new(most),
            evicted: 0,
            evicted_total: Count::default(),
            other: Count::default(),
        }
    }

    /// Counts a packet, and looks at how it fits into its connection.
    pub fn add(&mut self, link_type: LinkType, packet: &Packet<'_>) {
        let Some(found) = Found::read(link_type, packet) else {
            return self.other.add(packet);
        };
        let Found { protocol, source, destination, tcp } = found;
        let turned = source > destination;
        let ends = if turned { [destination, source] } else { [source, destination] };
        let key = Key { interface: packet.interface, protocol, ends };
        let begins = tcp.is_some_and(|tcp| tcp.begins());
        let fresh = || {
            // The first packet of a connection that was already there may be the server's; a SYN/ACK says so.
            let answers = tcp.is_some_and(|tcp| tcp.answers());
            let (client, server) = if answers { (destination, source) } else { (source, destination) };
            Flow {
                interface: packet.interface,
                protocol,
                client,
                server,
                sent: Count::default(),
                received: Count::default(),
                first: packet.time,
                last: packet.time,
                tcp: tcp.map(|_| TcpHealth::default()),
            }
        };
        let (flow, evicted) = self.table.get_or_insert(key, fresh);
        if let Some(evicted) = evicted {
            self.evicted += 1;
            let total = evicted.total();
            self.evicted_total.packets += total.packets;
            self.evicted_total.bytes += total.bytes;
        }
        if begins && flow.client != source {
            flow.turn();
        }
        let from_client = flow.client == source;
        let count = if from_client { &mut flow.sent } else { &mut flow.received };
        count.add(packet);
        flow.first = flow.first.min(packet.time);
        flow.last = flow.last.max(packet.time);
        if let (Some(health), Some(tcp)) = (&mut flow.tcp, tcp) {
            health.segment(packet.time, &tcp, from_client);
        }
    }

    /// What was counted so far.
    pub fn report(&self) -> Report {
        let mut flows: Vec<Flow> = self.table.values().cloned().collect();
        flows.sort_by_key(|flow| {
            (std::cmp::Reverse(flow.total().bytes), flow.first, flow.client, flow.server)
        });
        Report { flows, evicted: self.evicted, evicted_total: self.evicted_total, other: self.other }
    }
}

impl Count {
    fn add(&mut self, packet: &Packet<'_>) {
        self.packets += 1;
        self.bytes += u64::from(packet.original_length);
    }
}

impl Flow {
    /// The one who was taken for the client is the server.
    fn turn(&mut self) {
        std::mem::swap(&mut self.client, &mut self.server);
        std::mem::swap(&mut self.sent, &mut self.received);
        if let Some(health) = &mut self.tcp {
            health.turn();
        }
    }
}

/// The innermost flow that a packet belongs to.
struct Found<'a> {
    protocol: u8,
    source: End,
    destination: End,
    tcp: Option<Tcp<'a>>,
}

impl<'a> Found<'a> {
    fn read(link_type: LinkType, packet: &Packet<'a>) -> Option<Self> {
        let mut found: Option<Found<'a>> = None;
        let at = |address| End { address, port: None };
        for layer in Layers::of(link_type, packet) {
            match (layer, &mut found) {
                (Layer::Ipv4(ip), found) => {
                    let (source, destination) = (at(ip.source.into()), at(ip.destination.into()));
                    *found = Some(Found { protocol: ip.protocol, source, destination, tcp: None });
                }
                (Layer::Ipv6(ip), found) => {
                    let (source, destination) = (at(ip.source.into()), at(ip.destination.into()));
                    *found = Some(Found { protocol: ip.next_header, source, destination, tcp: None });
                }
                (Layer::Extension(extension), Some(found)) => found.protocol = extension.next_header,
                (Layer::Fragment(fragment), Some(found)) => found.protocol = fragment.protocol,
                (Layer::Tcp(tcp), Some(found)) => {
                    found.ports(tcp.source, tcp.destination);
                    found.tcp = Some(tcp);
                }
                (Layer::Udp(udp), Some(found)) => found.ports(udp.source, udp.destination),
                (Layer::Sctp(sctp), Some(found)) => found.ports(sctp.source, sctp.destination),
                (Layer::Ports(source, destination), Some(found)) => found.ports(source, destination),
                // What an application says is not looked at.
                (Layer::Dns(_) | Layer::Http(_) | Layer::Tls(_), _) => break,
                _ => {}
            }
        }
        found
    }

    fn ports(&mut self, source: u16, destination: u16) {
        self.source.port = Some(source);
        self.destination.port = Some(destination);
    }
}

#[cfg(test)]
mod tests;
