//! What passes a relay, as packets: those that two ends would have sent each other had nobody stood between them.
//!
//! A datagram is a packet, as it was. The segments of a stream are made, since a relay sees none. Both begin with the
//! header of IP: what lies before it is not known here, nor are fragments, hops and whatever else a network does.

mod datagrams;
mod ip;
mod streams;

use snorkel_bpf::tap::Transport;

use crate::event::{Direction, Event, Time};
use datagrams::Datagrams;
use streams::Streams;

/// Makes packets of what one relay tells.
#[derive(Debug)]
pub struct Packets {
    maker: Maker,
    packet: Vec<u8>,
}

#[derive(Debug)]
enum Maker {
    Streams(Streams),
    Datagrams(Datagrams),
}

impl Packets {
    /// Of a relay of this transport, which has told nothing yet.
    pub fn new(transport: Transport) -> Packets {
        let maker = match transport {
            Transport::Tcp => Maker::Streams(Streams::default()),
            Transport::Udp => Maker::Datagrams(Datagrams::default()),
        };
        Packets { maker, packet: Vec::new() }
    }

    /// Makes the packets of an event, each an IPv4 or IPv6 packet from its header on, and hands them to `emit` in their
    /// order. An event that is not about bytes, datagrams, openings and ends makes none. Once `emit` has failed no more is
    /// to be made.
    pub fn take<E>(
        &mut self,
        event: &Event,
        emit: impl FnMut(Time, Direction, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match &mut self.maker {
            Maker::Streams(streams) => streams.take(event, &mut self.packet, emit),
            Maker::Datagrams(datagrams) => datagrams.take(event, &mut self.packet, emit),
        }
    }
}
