//! Streams as segments: what two ends of TCP would have sent each other had nobody stood between them.
//!
//! A relay sees streams, not segments. From what it tells (a connection opens, bytes at a place of a direction, an end)
//! the packets are made that carry just that, with the addresses of those who speak, sequence numbers, checksums, an
//! acknowledgement for each piece, so that whoever follows streams of captures follows these. What the relay could not
//! tell in time is missing here as well: a hole in the sequence, as if packets had been lost by whoever captured.
//! RFC 9293; 7323 (the window's scale); 6093 (the urgent byte).

use std::collections::HashMap;
use std::net::SocketAddr;

use snorkel_bpf::tap::Transport;

use super::ip::{self, fold, sum};
use crate::event::{ConnectionId, Direction, End, Ends, Event, Time, What};

/// The longest segment: as long as offloaded ones tend to be, and short enough for both versions of IP.
const SEGMENT: usize = 32 << 10;
/// Each end may send so many times 64 KiB (as a power of two) ahead; no piece is that long, and no window ever full.
const WINDOW_SCALE: u8 = 10;
/// More connections are not remembered at once: only where a relay's words about their ends are lost can there be more.
const MOST: usize = 1 << 20;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const URG: u8 = 0x20;

/// Makes segments of what a relay of connections tells.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: HashMap<ConnectionId, Stream>,
}

/// One connection, as far as it was told.
#[derive(Debug)]
struct Stream {
    /// By the direction in which an end speaks.
    ends: [SocketAddr; 2],
    /// The number of the next byte, by direction.
    next: [u32; 2],
    /// The direction has ended.
    finished: [bool; 2],
    /// The identification of the last IPv4 packet, by direction.
    identification: [u16; 2],
}

/// What is in a segment beside its numbers.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    direction: Direction,
    flags: u8,
    payload: &'a [u8],
}

impl Streams {
    /// Makes the packets of an event in `packet`, one after the other, and hands them to `emit`.
    pub(super) fn take<E>(
        &mut self,
        event: &Event,
        packet: &mut Vec<u8>,
        mut emit: impl FnMut(Time, Direction, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        use Direction::{ToClient, ToServer};
        let id = event.connection;
        if let What::Said(_) | What::Datagram { .. } = event.what {
            return Ok(());
        }
        let known = self.streams.contains_key(&id);
        if !known && self.streams.len() >= MOST {
            self.streams.clear();
        }
        let stream = self.streams.entry(id).or_insert_with(|| Stream::new(id, &event.ends));
        let bare = |direction, flags| Segment { direction, flags, payload: &[] };
        let segments: Vec<Segment<'_>> = match &event.what {
            What::Opened => {
                stream.next = Direction::BOTH.map(|direction| first(id, direction));
                vec![bare(ToServer, SYN), bare(ToClient, SYN | ACK), bare(ToServer, ACK)]
            }
            What::Bytes { direction, offset, bytes } => {
                stream.seek(id, *direction, *offset);
                let last = bytes.len().div_ceil(SEGMENT).saturating_sub(1);
                let flags = |at| if at == last { PSH | ACK } else { ACK };
                let pieces = bytes.chunks(SEGMENT).enumerate();
                let pieces =
                    pieces.map(|(at, payload)| Segment { direction: *direction, flags: flags(at), payload });
                pieces.chain([bare(direction.opposite(), ACK)]).collect()
            }
            What::Urgent { direction, offset, byte } => {
                stream.seek(id, *direction, *offset);
                let urgent = Segment {
                    direction: *direction,
                    flags: URG | PSH | ACK,
                    payload: std::slice::from_ref(byte),
                };
                vec![urgent, bare(direction.opposite(), ACK)]
            }
            What::Finished { direction, offset } => {
                stream.seek(id, *direction, *offset);
                vec![bare(*direction, FIN | ACK), bare(direction.opposite(), ACK)]
            }
            What::Ended(summary) if known => match summary.end {
                // No connection of TCP is idle in the end: that is a flow of datagrams.
                End::Closed | End::Idle => Vec::new(),
                End::Reset { by } => vec![bare(by, RST | ACK)],
                // The tap answered in the application's place, and closed.
                End::Cut { .. } if stream.finished[ToClient.index()] => Vec::new(),
                End::Refused { .. } | End::Failed { .. } | End::Cut { .. } => vec![bare(ToClient, RST | ACK)],
            },
            What::Ended(_) | What::Said(_) | What::Datagram { .. } => Vec::new(),
        };
        for segment in segments {
            stream.write(segment, packet);
            emit(event.time, segment.direction, packet)?;
        }
        if let What::Ended(_) = event.what {
            self.streams.remove(&id);
        }
        Ok(())
    }
}

impl Stream {
    fn new(id: ConnectionId, ends: &Ends) -> Stream {
        Stream {
            ends: ip::ends(ends),
            // As behind an opening, should that not be told.
            next: Direction::BOTH.map(|direction| first(id, direction).wrapping_add(1)),
            finished: [false; 2],
            identification: [0; 2],
        }
    }

    /// What comes next in a direction stands behind so many bytes of it.
    fn seek(&mut self, id: ConnectionId, direction: Direction, offset: u64) {
        // Sequence numbers count around, and so does this.
        self.next[direction.index()] = first(id, direction).wrapping_add(1).wrapping_add(offset as u32);
    }

    /// Makes a packet, and counts what it carries.
    fn write(&mut self, segment: Segment<'_>, packet: &mut Vec<u8>) {
        let Segment { direction, flags, payload } = segment;
        let (here, there) = (direction.index(), direction.opposite().index());
        let (from, to) = (self.ends[here], self.ends[there]);
        let is_syn = flags & SYN != 0;
        // The longest segment (RFC 9293, 3.7.1), the window's scale, and one byte to fill it up.
        let options: &[u8] =
            if is_syn { &[2, 4, (SEGMENT >> 8) as u8, SEGMENT as u8, 1, 3, 3, WINDOW_SCALE] } else { &[] };
        let length = 20 + options.len() + payload.len();
        packet.clear();
        self.identification[here] = self.identification[here].wrapping_add(1);
        let pseudo =
            ip::header(packet, (from.ip(), to.ip()), Transport::Tcp, length, self.identification[here]);
        let start = packet.len();
        packet.extend(from.port().to_be_bytes());
        packet.extend(to.port().to_be_bytes());
        packet.extend(self.next[here].to_be_bytes());
        let acknowledged = if flags & ACK != 0 { self.next[there] } else { 0 };
        packet.extend(acknowledged.to_be_bytes());
        packet.extend([((20 + options.len()) as u8 / 4) << 4, flags]);
        packet.extend(u16::MAX.to_be_bytes());
        // The checksum.
        packet.extend([0; 2]);
        // It points behind the urgent byte (RFC 6093, 3.1), which is the last one.
        let urgent = if flags & URG != 0 { payload.len() as u16 } else { 0 };
        packet.extend(urgent.to_be_bytes());
        packet.extend(options);
        packet.extend(payload);
        let checksum = fold(pseudo + sum(&packet[start..]));
        packet[start + 16..start + 18].copy_from_slice(&checksum.to_be_bytes());
        let counted = payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
        self.next[here] = self.next[here].wrapping_add(counted);
        self.finished[here] |= flags & FIN != 0;
    }
}

/// Where the numbers of a direction begin: elsewhere for each connection, so that one that takes the addresses of another
/// is not taken for it.
fn first(id: ConnectionId, direction: Direction) -> u32 {
    let mixed = (id.0 << 1 | direction.index() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::event::Summary;
    use crate::packets::{Maker, Packets};
    use Direction::{ToClient, ToServer};

    fn ends(client: &str, server: &str) -> Ends {
        Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
    }

    fn ended(end: End) -> What {
        What::Ended(Summary { bytes: [0; 2], lasted: Duration::ZERO, first_byte: None, end })
    }

    /// The packets of these events of a connection.
    fn packets(id: u64, ends: Ends, whats: &[What]) -> Vec<Vec<u8>> {
        let (mut packets, mut made) = (Packets::new(Transport::Tcp), Vec::new());
        for what in whats {
            let event = Event { time: Time(1), connection: ConnectionId(id), ends, what: what.clone() };
            let mut emit = |_, _, packet: &[u8]| {
                made.push(packet.to_vec());
                Ok::<_, ()>(())
            };
            packets.take(&event, &mut emit).unwrap();
        }
        let Maker::Streams(Streams { streams }) = &packets.maker else { unreachable!() };
        assert!(streams.is_empty() || !matches!(whats.last(), Some(What::Ended(_))));
        made
    }

    /// Flags, sequence and acknowledgement numbers, and the payload.
    fn segment(packet: &[u8]) -> (u8, u32, u32, &[u8]) {
        let tcp = &packet[if packet[0] >> 4 == 4 { 20 } else { 40 }..];
        let number = |at: usize| u32::from_be_bytes(tcp[at..at + 4].try_into().unwrap());
        (tcp[13], number(4), number(8), &tcp[usize::from(tcp[12] >> 4) * 4..])
    }

    #[test]
    fn a_conversation_is_what_two_ends_would_have_sent() {
        let bytes =
            |direction, offset, bytes: &[u8]| What::Bytes { direction, offset, bytes: bytes.to_vec() };
        let made = packets(
            7,
            ends("10.0.0.3:40000", "10.0.0.2:80"),
            &[
                What::Opened,
                bytes(ToServer, 0, b"hello"),
                bytes(ToClient, 0, b"hi"),
                What::Finished { direction: ToServer, offset: 5 },
                What::Finished { direction: ToClient, offset: 2 },
                ended(End::Closed),
            ],
        );
        let [c, s] = Direction::BOTH.map(|direction| first(ConnectionId(7), direction));
        let from = |packet: &[u8]| if packet[12..16] == [10, 0, 0, 3] { 'c' } else { 's' };
        let seen: Vec<_> = made
            .iter()
            .map(|packet| {
                let (flags, number, ack, payload) = segment(packet);
                let [own, others] = if from(packet) == 'c' { [c, s] } else { [s, c] };
                let ack = if flags & ACK == 0 { ack } else { ack.wrapping_sub(others) };
                (from(packet), flags, number.wrapping_sub(own), ack, payload)
            })
            .collect();
        let none: &[u8] = b"";
        assert_eq!(
            seen,
            [
                ('c', SYN, 0, 0, none),
                ('s', SYN | ACK, 0, 1, none),
                ('c', ACK, 1, 1, none),
                ('c', PSH | ACK, 1, 1, b"hello"),
                ('s', ACK, 1, 6, none),
                ('s', PSH | ACK, 1, 6, b"hi"),
                ('c', ACK, 6, 3, none),
                ('c', FIN | ACK, 6, 3, none),
                ('s', ACK, 3, 7, none),
                ('s', FIN | ACK, 3, 7, none),
                ('c', ACK, 7, 4, none),
            ]
        );
    }

    #[test]
    fn how_it_ended_is_seen() {
        let cut = || End::Cut { why: String::new() };
        let failed = || End::Refused { error: String::new() };
        let server = [10, 0, 0, 2];
        for (end, finished, from) in [
            (End::Closed, false, None),
            (End::Reset { by: ToServer }, false, Some([10, 0, 0, 3])),
            (End::Reset { by: ToClient }, false, Some(server)),
            (failed(), false, Some(server)),
            (cut(), false, Some(server)),
            // Answered by the tap, and closed.
            (cut(), true, None),
        ] {
            let mut whats = vec![What::Opened];
            whats.extend(finished.then_some(What::Finished { direction: ToClient, offset: 0 }));
            whats.push(ended(end.clone()));
            let made = packets(1, ends("10.0.0.3:40000", "10.0.0.2:80"), &whats);
            let reset = made.iter().find(|packet| segment(packet).0 & RST != 0);
            assert_eq!(reset.map(|packet| packet[12..16].try_into().unwrap()), from, "{end:?}");
        }
    }

    #[test]
    fn an_urgent_byte_is_pointed_at_and_has_a_number_as_any_other() {
        let bytes = |offset, bytes: &[u8]| What::Bytes { direction: ToServer, offset, bytes: bytes.to_vec() };
        let whats = [
            What::Opened,
            bytes(0, b"before"),
            What::Urgent { direction: ToServer, offset: 6, byte: b'!' },
            bytes(7, b"after"),
            What::Finished { direction: ToServer, offset: 12 },
        ];
        let made = packets(1, ends("10.0.0.3:40000", "10.0.0.2:80"), &whats);
        let begin = segment(&made[0]).1;
        let urgent = |packet: &[u8]| u16::from_be_bytes(packet[38..40].try_into().unwrap());
        let seen: Vec<_> = made[3..]
            .iter()
            .filter(|packet| packet[12..16] == [10, 0, 0, 3])
            .map(|packet| {
                let (flags, number, _, payload) = segment(packet);
                (flags, number.wrapping_sub(begin), urgent(packet), payload)
            })
            .collect();
        assert_eq!(
            seen,
            [
                (PSH | ACK, 1, 0, &b"before"[..]),
                (URG | PSH | ACK, 7, 1, b"!"),
                (PSH | ACK, 8, 0, b"after"),
                (FIN | ACK, 13, 0, b""),
            ]
        );
        // And the other side acknowledges it.
        assert_eq!(segment(&made[6]).2, begin.wrapping_add(8));
    }

    #[test]
    fn what_was_not_told_is_a_hole_of_its_length() {
        let ends = ends("[fd88::3]:40000", "[fd88::2]:80");
        let whats = [What::Opened, What::Bytes { direction: ToServer, offset: 1000, bytes: b"x".to_vec() }];
        let made = packets(1, ends, &whats);
        let begin = segment(&made[0]).1;
        assert_eq!(segment(&made[3]).1, begin.wrapping_add(1001));
        // Also where the opening itself was not told, and it makes no difference to the numbers.
        assert_eq!(segment(&packets(1, ends, &whats[1..])[0]).1, begin.wrapping_add(1001));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_byte_is_in_a_packet_and_every_checksum_right(
            six: bool, id: u64, offset: u64, payload in proptest::collection::vec(any::<u8>(), 1..40_000)
        ) {
            let ends =
                if six { ends("[fd88::3]:1", "[fd88::2]:80") } else { ends("10.0.0.3:1", "10.0.0.2:80") };
            let made = packets(id, ends, &[What::Opened, What::Bytes {
                direction: ToClient, offset, bytes: payload.clone()
            }]);
            let mut all = Vec::new();
            for packet in &made {
                let (length, pseudo) = if six {
                    (40 + usize::from(packet[4]) * 256 + usize::from(packet[5]), sum(&packet[8..40]))
                } else {
                    prop_assert_eq!(fold(sum(&packet[..20])), 0);
                    (usize::from(packet[2]) * 256 + usize::from(packet[3]), sum(&packet[12..20]))
                };
                prop_assert_eq!(length, packet.len());
                let tcp = &packet[if six { 40 } else { 20 }..];
                prop_assert_eq!(fold(pseudo + 6 + tcp.len() as u64 + sum(tcp)), 0);
                all.extend_from_slice(segment(packet).3);
            }
            prop_assert_eq!(all, payload);
        }
    }
}
