//! Datagrams as packets, one each, with the addresses and ports of those who speak. RFC 768; 8200, 8.1 (the checksum over
//! IPv6).

use snorkel_bpf::tap::Transport;

use super::ip::{self, fold, sum};
use crate::event::{Direction, Ends, Event, Time, What};

/// The length of a UDP header.
const HEADER: usize = 8;

/// Makes packets of what a relay of datagrams tells. Flows leave nothing behind here.
#[derive(Debug, Default)]
pub(super) struct Datagrams {
    /// The identification of the last IPv4 packet.
    identification: u16,
}

impl Datagrams {
    /// Makes the packet of an event in `packet`, and hands it to `emit`.
    pub(super) fn take<E>(
        &mut self,
        event: &Event,
        packet: &mut Vec<u8>,
        mut emit: impl FnMut(Time, Direction, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let What::Datagram { direction, bytes } = &event.what else { return Ok(()) };
        match self.write(&event.ends, *direction, bytes, packet) {
            Some(()) => emit(event.time, *direction, packet),
            None => Ok(()),
        }
    }

    /// Makes a packet. It is never cut: the longest datagram (65,507 bytes over IPv4, 65,527 over IPv6) makes just the
    /// longest packet, and there is no snap length. One that is longer cannot have come this way, and makes none.
    fn write(
        &mut self,
        ends: &Ends,
        direction: Direction,
        payload: &[u8],
        packet: &mut Vec<u8>,
    ) -> Option<()> {
        let ends = ip::ends(ends);
        let (from, to) = (ends[direction.index()], ends[direction.opposite().index()]);
        let length = HEADER + payload.len();
        if length > ip::room(ends) {
            return None;
        }
        packet.clear();
        self.identification = self.identification.wrapping_add(1);
        let between = (from.ip(), to.ip());
        let pseudo = ip::header(packet, between, Transport::Udp, length, self.identification);
        let start = packet.len();
        packet.extend(from.port().to_be_bytes());
        packet.extend(to.port().to_be_bytes());
        // That fits, as there is room.
        packet.extend((length as u16).to_be_bytes());
        packet.extend([0; 2]);
        packet.extend(payload);
        // 0 would say that there is none.
        let checksum = match fold(pseudo + sum(&packet[start..])) {
            0 => u16::MAX,
            checksum => checksum,
        };
        packet[start + 6..start + HEADER].copy_from_slice(&checksum.to_be_bytes());
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{ConnectionId, End, Summary};
    use crate::packets::Packets;
    use Direction::{ToClient, ToServer};

    const FOUR: [&str; 2] = ["10.0.0.3:40000", "10.0.0.2:53"];
    const SIX: [&str; 2] = ["[fd88::3]:40000", "[fd88::2]:53"];

    /// The packets of these events of a flow, each with when and which way.
    fn packets([client, server]: [&str; 2], whats: Vec<What>) -> Vec<(Time, Direction, Vec<u8>)> {
        let ends = Ends { client: client.parse().unwrap(), server: server.parse().unwrap() };
        let (mut packets, mut made) = (Packets::new(Transport::Udp), Vec::new());
        for (at, what) in whats.into_iter().enumerate() {
            let event = Event { time: Time(at as u64), connection: ConnectionId(1), ends, what };
            let mut emit = |time, direction, packet: &[u8]| {
                made.push((time, direction, packet.to_vec()));
                Ok::<_, ()>(())
            };
            packets.take(&event, &mut emit).unwrap();
        }
        made
    }

    fn datagram(direction: Direction, bytes: &[u8]) -> What {
        What::Datagram { direction, bytes: bytes.to_vec() }
    }

    /// Words of 16 bits, added up in one's complement as RFC 1071 has it, one at a time: 0xffff where a checksum is right.
    fn added(parts: &[&[u8]]) -> u16 {
        let mut all = parts.concat();
        all.resize(all.len().next_multiple_of(2), 0);
        all.chunks(2).fold(0u16, |sum, word| {
            let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([word[0], word[1]]));
            sum + u16::from(carry)
        })
    }

    /// Source, destination, ports and payload of a packet of which every length and checksum is right.
    fn read(packet: &[u8]) -> (&[u8], &[u8], [u16; 2], &[u8]) {
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let (addresses, udp, length) = if packet[0] >> 4 == 4 {
            assert_eq!((packet[0], packet[9], added(&[&packet[..20]])), (0x45, 17, 0xffff));
            (12..20, 20, usize::from(word(2)))
        } else {
            assert_eq!((packet[0], packet[6]), (0x60, 17));
            (8..40, 40, 40 + usize::from(word(4)))
        };
        assert_eq!(length, packet.len());
        assert_eq!(usize::from(word(udp + 4)), packet.len() - udp);
        assert_ne!(word(udp + 6), 0, "that is no checksum");
        let pseudo = [[0, 17], word(udp + 4).to_be_bytes()].concat();
        assert_eq!(added(&[&packet[addresses.clone()], &pseudo, &packet[udp..]]), 0xffff);
        let (from, to) = packet[addresses.clone()].split_at(addresses.len() / 2);
        (from, to, [word(udp), word(udp + 2)], &packet[udp + HEADER..])
    }

    #[test]
    fn each_datagram_is_a_packet_and_nothing_else_is() {
        let summary = |end| Summary { bytes: [3, 4], lasted: Default::default(), first_byte: None, end };
        for end in [End::Idle, End::Refused { error: String::new() }, End::Cut { why: String::new() }] {
            let made = packets(
                FOUR,
                vec![
                    What::Opened,
                    datagram(ToServer, b"ask"),
                    datagram(ToClient, b"told"),
                    datagram(ToServer, b""),
                    What::Ended(summary(end)),
                ],
            );
            let seen: Vec<_> = made.iter().map(|(time, way, packet)| (time.0, *way, read(packet))).collect();
            let (client, server): (&[u8], &[u8]) = (&[10, 0, 0, 3], &[10, 0, 0, 2]);
            assert_eq!(
                seen,
                [
                    (1, ToServer, (client, server, [40000, 53], &b"ask"[..])),
                    (2, ToClient, (server, client, [53, 40000], b"told")),
                    (3, ToServer, (client, server, [40000, 53], b"")),
                ]
            );
        }
    }

    #[test]
    fn the_longest_datagram_is_one_packet_and_longer_ones_there_are_not() {
        for (ends, longest, packet) in [(FOUR, 65_507, 65_535), (SIX, 65_527, 65_575)] {
            let made = packets(ends, vec![datagram(ToClient, &vec![0xa5; longest])]);
            assert_eq!((made.len(), made[0].2.len()), (1, packet));
            assert_eq!(read(&made[0].2).3, vec![0xa5; longest]);
            assert!(packets(ends, vec![datagram(ToClient, &vec![0; longest + 1])]).is_empty());
        }
    }

    #[test]
    fn a_checksum_that_comes_to_nothing_is_not_taken_for_none() {
        for ends in [FOUR, SIX] {
            // What the checksum is with zeros in its place makes it zero when it stands in the payload.
            let made = packets(ends, vec![datagram(ToServer, &[0, 0])]);
            let udp = made[0].2.len() - 10;
            let word = made[0].2[udp + 6..udp + 8].to_vec();
            let made = packets(ends, vec![datagram(ToServer, &word)]);
            assert_eq!(made[0].2[udp + 6..udp + 8], [0xff, 0xff]);
            assert_eq!(read(&made[0].2).3, word);
        }
    }

    #[test]
    fn addresses_of_ipv4_that_stand_in_ipv6_s_are_those_of_ipv4() {
        let made = packets(["[::ffff:10.0.0.3]:40000", "10.0.0.2:53"], vec![datagram(ToServer, b"x")]);
        assert_eq!(read(&made[0].2).0, [10, 0, 0, 3]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn every_byte_is_in_the_packet_and_every_checksum_right(
            six: bool, to_client: bool, payload in proptest::collection::vec(any::<u8>(), 0..3_000)
        ) {
            let direction = if to_client { ToClient } else { ToServer };
            let made = packets(if six { SIX } else { FOUR }, vec![datagram(direction, &payload)]);
            prop_assert_eq!(made.len(), 1);
            prop_assert_eq!(read(&made[0].2).3, &payload[..]);
        }
    }
}
