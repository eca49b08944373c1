//! Flows of packets that are built by code: each direction's count, what is sent again, memory's bound.

use super::{Count, Flows};
use crate::dissect::TcpFlags;
use crate::packet::{LinkType, Packet, Timestamp};

const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 40000);
const SERVER: ([u8; 4], u16) = ([10, 0, 0, 2], 80);

fn ip(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((payload.len() as u16 + 20).to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(payload);
    packet
}

struct Conversation {
    flows: Flows,
    time: u64,
}

impl Conversation {
    fn new(most: usize) -> Self {
        Conversation { flows: Flows::new(most), time: 1_000_000_000 }
    }

    /// A packet, so many microseconds after the one before.
    fn packet(&mut self, after: u64, data: &[u8]) {
        self.time += after * 1000;
        let original_length = data.len() as u32;
        let time = Timestamp(self.time);
        let packet = Packet { time, interface: 0, direction: None, original_length, data };
        self.flows.add(LinkType::RAW, &packet);
    }

    fn segment(&mut self, after: u64, forward: bool, flags: u16, numbers: (u32, u32), length: usize) {
        let (from, to) = if forward { (CLIENT, SERVER) } else { (SERVER, CLIENT) };
        let mut segment = Vec::new();
        segment.extend(from.1.to_be_bytes());
        segment.extend(to.1.to_be_bytes());
        segment.extend(numbers.0.to_be_bytes());
        segment.extend(numbers.1.to_be_bytes());
        segment.extend([0x50, flags as u8, 1, 0, 0, 0, 0, 0]);
        segment.resize(20 + length, 0);
        self.packet(after, &ip(6, from.0, to.0, &segment));
    }

    /// SYN, SYN/ACK after 300 µs, ACK after 100 µs; numbers begin at 100 and, near the end of their space, -50.
    fn opened() -> Self {
        let mut conversation = Self::new(10);
        conversation.segment(0, true, TcpFlags::SYN, (100, 0), 0);
        conversation.segment(300, false, TcpFlags::SYN | TcpFlags::ACK, (50u32.wrapping_neg(), 101), 0);
        conversation.segment(100, true, TcpFlags::ACK, (101, 49u32.wrapping_neg()), 0);
        conversation
    }
}

const DATA: u16 = TcpFlags::ACK | TcpFlags::PSH;
const FIRST: u32 = 49u32.wrapping_neg();

#[test]
fn a_connection_is_counted_both_ways_and_its_handshake_is_timed() {
    let mut conversation = Conversation::opened();
    conversation.segment(10, true, DATA, (101, FIRST), 100);
    conversation.segment(10, false, DATA, (FIRST, 201), 30);
    let report = conversation.flows.report();
    let [flow] = report.flows.as_slice() else { panic!("{report:?}") };
    assert_eq!((flow.client.port, flow.server.port), (Some(40000), Some(80)));
    assert_eq!(flow.sent, Count { packets: 3, bytes: 220 });
    assert_eq!(flow.received, Count { packets: 2, bytes: 110 });
    assert_eq!(flow.duration(), 420_000);
    let health = flow.tcp.as_ref().unwrap();
    let handshake = health.handshake.unwrap();
    assert_eq!((handshake.server, handshake.client, handshake.total()), (300_000, 100_000, 400_000));
    assert_eq!((health.client.payload, health.server.payload), (100, 30));
    assert_eq!((health.client.retransmissions, health.server.retransmissions), (0, 0));
}

#[test]
fn data_that_was_sent_before_is_a_retransmission_of_some_kind() {
    let mut conversation = Conversation::opened();
    // Over the end of sequence space.
    conversation.segment(10, false, DATA, (FIRST, 101), 1000);
    conversation.segment(10, false, DATA, (FIRST.wrapping_add(1000), 101), 1000);
    // A timer ran out.
    conversation.segment(200_000, false, DATA, (FIRST.wrapping_add(1000), 101), 1000);
    // Acknowledged, and sent again in vain.
    conversation.segment(10, true, TcpFlags::ACK, (101, FIRST.wrapping_add(2000)), 0);
    conversation.segment(10, false, DATA, (FIRST, 101), 1000);
    // Asked for by three acknowledgements of the same.
    conversation.segment(10, false, DATA, (FIRST.wrapping_add(2000), 101), 1000);
    conversation.segment(10, false, DATA, (FIRST.wrapping_add(3000), 101), 1000);
    conversation.segment(10, true, TcpFlags::ACK, (101, FIRST.wrapping_add(2000)), 0);
    conversation.segment(10, true, TcpFlags::ACK, (101, FIRST.wrapping_add(2000)), 0);
    conversation.segment(10, false, DATA, (FIRST.wrapping_add(2000), 101), 1000);
    let report = conversation.flows.report();
    let health = report.flows[0].tcp.clone().unwrap();
    assert_eq!(
        (
            health.server.retransmissions,
            health.server.fast,
            health.server.spurious,
            health.server.out_of_order
        ),
        (3, 1, 1, 0)
    );
    assert_eq!(health.client.duplicate_acks, 2);
    assert_eq!(health.client.retransmissions, 0);
}

#[test]
fn a_segment_that_was_overtaken_is_none() {
    let mut conversation = Conversation::opened();
    conversation.segment(10, true, DATA, (101, FIRST), 100);
    conversation.segment(10, true, DATA, (301, FIRST), 100);
    conversation.segment(10, true, DATA, (201, FIRST), 100);
    let health = conversation.flows.report().flows[0].tcp.clone().unwrap();
    assert_eq!((health.client.out_of_order, health.client.retransmissions, health.client.gaps), (1, 0, 1));
}

#[test]
fn a_question_whether_the_other_end_is_there_is_none() {
    let mut conversation = Conversation::opened();
    conversation.segment(10, true, DATA, (101, FIRST), 100);
    conversation.segment(10, false, TcpFlags::ACK, (FIRST, 201), 0);
    conversation.segment(1_000_000, true, TcpFlags::ACK, (200, FIRST), 1);
    conversation.segment(10, false, TcpFlags::ACK, (FIRST, 201), 0);
    let health = conversation.flows.report().flows[0].tcp.clone().unwrap();
    assert_eq!((health.client.retransmissions, health.server.duplicate_acks), (0, 0));
}

#[test]
fn who_sent_the_syn_is_the_client_whoever_was_seen_first() {
    let mut conversation = Conversation::new(10);
    conversation.segment(0, false, DATA, (5000, 1), 10);
    conversation.segment(1, true, TcpFlags::SYN, (100, 0), 0);
    conversation.segment(1, false, TcpFlags::RST | TcpFlags::ACK, (0, 101), 0);
    let flow = conversation.flows.report().flows[0].clone();
    assert_eq!(flow.client.port, Some(40000));
    assert_eq!((flow.sent.packets, flow.received.packets), (1, 2));
    let health = flow.tcp.unwrap();
    assert_eq!((health.client.resets, health.server.resets, health.handshake), (0, 1, None));
}

#[test]
fn memory_is_bounded_and_what_was_taken_out_is_told() {
    let mut conversation = Conversation::new(3);
    for n in 1..=10u8 {
        conversation.packet(1, &ip(17, [10, 0, 0, n], [10, 0, 1, 1], &[0, n, 0, 53, 0, 8, 0, 0]));
    }
    conversation.packet(1, &[]);
    let report = conversation.flows.report();
    assert_eq!(report.flows.len(), 3);
    assert_eq!((report.evicted, report.evicted_total), (7, Count { packets: 7, bytes: 7 * 28 }));
    assert_eq!(report.other, Count { packets: 1, bytes: 0 });
}

#[test]
fn fragments_and_protocols_without_ports_are_flows_of_two_addresses() {
    let mut conversation = Conversation::new(10);
    let mut fragment = ip(17, CLIENT.0, SERVER.0, &[9; 16]);
    fragment[6..8].copy_from_slice(&[0, 10]);
    conversation.packet(0, &fragment);
    conversation.packet(0, &ip(1, CLIENT.0, SERVER.0, &[8, 0, 0, 0, 0, 1, 0, 1]));
    conversation.packet(0, &ip(1, SERVER.0, CLIENT.0, &[0, 0, 0, 0, 0, 1, 0, 1]));
    let report = conversation.flows.report();
    let brief: Vec<_> = report
        .flows
        .iter()
        .map(|flow| (flow.protocol, flow.client.port, flow.sent.packets, flow.received.packets))
        .collect();
    assert_eq!(brief, [(1, None, 1, 1), (17, None, 1, 0)]);
}
