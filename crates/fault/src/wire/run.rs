//! Runs of TCP segments that go on as one super-packet.
//!
//! Each of them has been decided on, and all leave at the same moment: what is joined here costs the kernel one packet on the
//! rest of its way. The rules are those of its own receive offload (net/ipv4/tcp_offload.c `tcp_gro_receive`, net/ipv4/af_inet.c
//! `inet_gro_receive`): the segments follow each other, their headers differ in nothing but what counts on, their check sums
//! are right. Whoever cuts the super-packet has the same packets again, bit for bit.

use super::checksum::checksum;
use super::socket::{VNET, VNET_NEEDS_CSUM};

const ETHERNET: usize = 14;
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const TCP_HEADER: usize = 20;
const TCP: u8 = 6;

const PSH: u8 = 8;
const ACK: u8 = 16;
const ECE: u8 = 64;

/// The longest headers of a segment: Ethernet, IPv6, TCP with all its options.
const HEADERS: usize = ETHERNET + IPV6_HEADER + 60;
/// The longest super-packet: its length fits the IP header, and it is no longer than links take (`GSO_LEGACY_MAX_SIZE`).
const LONGEST: usize = 65535;

/// `VIRTIO_NET_HDR_GSO_TCPV4` and `VIRTIO_NET_HDR_GSO_TCPV6` of linux/virtio_net.h.
const VNET_TCPV4: u8 = 1;
const VNET_TCPV6: u8 = 4;
/// Where TCP has its check sum.
const TCP_SUM: usize = 16;

/// Packets that lie one behind the other in a list, and go on as one.
#[derive(Debug)]
pub(super) struct Run {
    /// How many.
    pub(super) packets: usize,
    /// What stands before their payloads; `None` for one that goes as it is.
    pub(super) head: Option<Head>,
}

/// The head of a super-packet.
#[derive(Debug)]
pub(super) struct Head {
    bytes: [u8; VNET + HEADERS],
    length: usize,
}

impl Head {
    /// The header for the kernel, then that of the packet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Where the payload of each of the packets begins.
    pub(super) fn payload(&self) -> usize {
        self.length - VNET
    }
}

/// Finds the runs in packets that leave in this order.
pub(super) fn runs(packets: &[&[u8]]) -> Vec<Run> {
    let mut runs = Vec::with_capacity(packets.len());
    let mut open: Option<Growing<'_>> = None;
    for packet in packets {
        let segment = Segment::of(packet);
        if let (Some(run), Some(segment)) = (&mut open, &segment)
            && run.take(segment)
        {
            continue;
        }
        runs.extend(open.take().map(Growing::end));
        match segment {
            Some(segment) => open = Some(Growing::new(segment)),
            None => runs.push(Run { packets: 1, head: None }),
        }
    }
    runs.extend(open.map(Growing::end));
    runs
}

/// A TCP segment with payload that could be one of a run.
#[derive(Clone, Copy, Debug)]
struct Segment<'a> {
    frame: &'a [u8],
    /// Where TCP's header begins, and its payload.
    tcp: usize,
    payload: usize,
}

impl<'a> Segment<'a> {
    fn of(frame: &'a [u8]) -> Option<Segment<'a>> {
        let length = frame.len().checked_sub(ETHERNET)?;
        let tcp = match [*frame.get(ETHERNET - 2)?, *frame.get(ETHERNET - 1)?] {
            IPV4 => {
                let ip = frame.get(ETHERNET..ETHERNET + IPV4_HEADER)?;
                // No options, no fragment, nothing behind the packet.
                let plain = ip[0] == 0x45 && ip[6] & 0xbf == 0 && ip[7] == 0 && ip[9] == TCP;
                if !plain || usize::from(u16::from_be_bytes([ip[2], ip[3]])) != length {
                    return None;
                }
                ETHERNET + IPV4_HEADER
            }
            IPV6 => {
                let ip = frame.get(ETHERNET..ETHERNET + IPV6_HEADER)?;
                let plain = ip[0] >> 4 == 6 && ip[6] == TCP;
                if !plain || usize::from(u16::from_be_bytes([ip[4], ip[5]])) + IPV6_HEADER != length {
                    return None;
                }
                ETHERNET + IPV6_HEADER
            }
            _ => return None,
        };
        let header = frame.get(tcp..tcp + TCP_HEADER)?;
        let payload = tcp + usize::from(header[12] >> 4) * 4;
        let plain = header[13] & !(PSH | ECE) == ACK;
        (plain && payload >= tcp + TCP_HEADER && payload < frame.len()).then_some(Segment {
            frame,
            tcp,
            payload,
        })
    }

    fn is_v4(&self) -> bool {
        self.tcp == ETHERNET + IPV4_HEADER
    }

    fn carried(&self) -> usize {
        self.frame.len() - self.payload
    }

    fn pushes(&self) -> bool {
        self.frame[self.tcp + 13] & PSH != 0
    }

    fn sequence(&self) -> u32 {
        let at = self.tcp + 4;
        u32::from_be_bytes([self.frame[at], self.frame[at + 1], self.frame[at + 2], self.frame[at + 3]])
    }

    fn identification(&self) -> u16 {
        u16::from_be_bytes([self.frame[ETHERNET + 4], self.frame[ETHERNET + 5]])
    }

    fn addresses(&self) -> &'a [u8] {
        let begin = if self.is_v4() { ETHERNET + 12 } else { ETHERNET + 8 };
        &self.frame[begin..self.tcp]
    }

    /// Whether all that must be the same in two segments of a run is.
    fn is_like(&self, other: &Segment<'_>) -> bool {
        // Addresses of the link, version, class; then what comes before the IPv4 header's sum, or all of the IPv6 header
        // behind its length; then TCP without sequence, flags and sum.
        let ip = if self.is_v4() { [0..16, 20..24, 26..34] } else { [0..18, 20..22, 22..54] };
        let tcp = [0..4, 8..13, 14..16, 18..self.payload - self.tcp];
        let apart = (self.frame[self.tcp + 13] ^ other.frame[other.tcp + 13]) & !PSH;
        self.tcp == other.tcp
            && self.payload == other.payload
            && apart == 0
            && ip.into_iter().all(|part| self.frame[part.clone()] == other.frame[part])
            && tcp
                .into_iter()
                .all(|part| self.frame[self.tcp..][part.clone()] == other.frame[other.tcp..][part])
    }

    /// Whether its check sums are right.
    fn is_right(&self) -> bool {
        let length = ((self.frame.len() - self.tcp) as u16).to_be_bytes();
        (!self.is_v4() || checksum(&[&self.frame[ETHERNET..self.tcp]]) == [0, 0])
            && checksum(&[self.addresses(), &[0, TCP], &length, &self.frame[self.tcp..]]) == [0, 0]
    }
}

/// A run that may have one more.
#[derive(Debug)]
struct Growing<'a> {
    first: Segment<'a>,
    packets: usize,
    /// Bytes of payload.
    carried: usize,
    /// The last of it ends it: it is shorter than the others, or is to be pushed.
    complete: bool,
    pushes: bool,
}

impl<'a> Growing<'a> {
    fn new(first: Segment<'a>) -> Growing<'a> {
        let (carried, pushes) = (first.carried(), first.pushes());
        Growing { first, packets: 1, carried, complete: pushes, pushes }
    }

    /// Takes the next one in, if it belongs to the run.
    fn take(&mut self, next: &Segment<'_>) -> bool {
        let (first, each, carried) = (&self.first, self.first.carried(), next.carried());
        // A sequence has 32 bits, an identification 16: both begin again at zero.
        let follows = next.sequence() == first.sequence().wrapping_add(self.carried as u32)
            && (!first.is_v4()
                || next.identification() == first.identification().wrapping_add(self.packets as u16));
        let fits = carried <= each && first.payload + self.carried + carried <= LONGEST;
        if self.complete || !follows || !fits || !first.is_like(next) {
            return false;
        }
        if (self.packets == 1 && !first.is_right()) || !next.is_right() {
            return false;
        }
        self.packets += 1;
        self.carried += carried;
        self.pushes = next.pushes();
        self.complete = self.pushes || carried < each;
        true
    }

    fn end(self) -> Run {
        let head = (self.packets > 1).then(|| self.head());
        Run { packets: self.packets, head }
    }

    /// The first one's headers, with the length of all, and what the kernel needs to cut it and to sum it up.
    fn head(&self) -> Head {
        let Segment { frame, tcp, payload } = self.first;
        let mut head = Head { bytes: [0; VNET + HEADERS], length: VNET + payload };
        let (vnet, packet) = head.bytes[..VNET + payload].split_at_mut(VNET);
        packet.copy_from_slice(&frame[..payload]);
        // At most LONGEST.
        let number = |bytes: usize| (bytes as u16).to_be_bytes();
        let addresses = self.first.addresses();
        if self.first.is_v4() {
            packet[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&number(payload + self.carried - ETHERNET));
            packet[ETHERNET + 10..ETHERNET + 12].fill(0);
            let sum = checksum(&[&packet[ETHERNET..tcp]]);
            packet[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum);
        } else {
            packet[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&number(payload + self.carried - tcp));
        }
        if self.pushes {
            packet[tcp + 13] |= PSH;
        }
        // What the pseudo-header has to the sum; the rest of it is left to whoever needs it.
        let pseudo = checksum(&[addresses, &[0, TCP], &number(payload + self.carried - tcp)]);
        packet[tcp + TCP_SUM..tcp + TCP_SUM + 2].copy_from_slice(&pseudo.map(|byte| !byte));
        vnet[0] = VNET_NEEDS_CSUM;
        vnet[1] = if self.first.is_v4() { VNET_TCPV4 } else { VNET_TCPV6 };
        for (place, value) in [payload, self.first.carried(), tcp, TCP_SUM].into_iter().enumerate() {
            // All are lengths within one packet.
            vnet[2 + 2 * place..][..2].copy_from_slice(&(value as u16).to_ne_bytes());
        }
        head
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A stream as a host sends it: what it does next is up to the test.
    #[derive(Clone)]
    struct Stream {
        v4: bool,
        sequence: u32,
        identification: u16,
        options: Vec<u8>,
    }

    impl Stream {
        fn new(v4: bool) -> Stream {
            // Both begin again soon.
            Stream { v4, sequence: u32::MAX - 3000, identification: u16::MAX - 3, options: vec![1, 1, 1, 0] }
        }

        fn segment(&mut self, flags: u8, payload: usize) -> Vec<u8> {
            let tcp = TCP_HEADER + self.options.len();
            let length = (tcp + payload) as u16;
            let mut frame = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2].to_vec();
            if self.v4 {
                frame.extend(IPV4);
                let mut ip = vec![0x45, 0];
                ip.extend((length + 20).to_be_bytes());
                ip.extend(self.identification.to_be_bytes());
                ip.extend([0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
                let sum = checksum(&[&ip]);
                ip[10..12].copy_from_slice(&sum);
                frame.extend(ip);
            } else {
                frame.extend(IPV6);
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([TCP, 64]);
                frame.extend([[0xfd; 16], [0xfe; 16]].concat());
            }
            let at = frame.len();
            frame.extend([1, 2, 3, 4]);
            frame.extend(self.sequence.to_be_bytes());
            frame.extend([9, 9, 9, 9, (tcp as u8 / 4) << 4, flags, 7, 7, 0, 0, 0, 0]);
            frame.extend(&self.options);
            frame.extend((0..payload).map(|byte| (byte as u32 ^ self.sequence) as u8));
            set_sum(&mut frame, at);
            self.sequence = self.sequence.wrapping_add(payload as u32);
            self.identification = self.identification.wrapping_add(1);
            frame
        }
    }

    /// Gives a frame whose TCP header begins there the check sum of its segment.
    fn set_sum(frame: &mut [u8], at: usize) {
        frame[at + TCP_SUM..at + TCP_SUM + 2].fill(0);
        let length = ((frame.len() - at) as u16).to_be_bytes();
        let addresses = if at == ETHERNET + IPV4_HEADER { at - 8..at } else { at - 32..at };
        let sum = checksum(&[&frame[addresses], &[0, TCP], &length, &frame[at..]]);
        frame[at + TCP_SUM..at + TCP_SUM + 2].copy_from_slice(&sum);
    }

    /// What the kernel makes of a super-packet when a link takes none (`tcp_gso_segment`, `inet_gso_segment`).
    fn cut(head: &Head, payload: &[u8]) -> Vec<Vec<u8>> {
        let (vnet, packet) = head.bytes().split_at(VNET);
        let number = |at: usize| usize::from(u16::from_ne_bytes([vnet[at], vnet[at + 1]]));
        let (length, each, tcp, place) = (number(2), number(4), number(6), number(8));
        assert_eq!((length, place, vnet[0]), (packet.len(), TCP_SUM, VNET_NEEDS_CSUM));
        let v4 = vnet[1] == VNET_TCPV4;
        let whole =
            u16::from_be_bytes([packet[16 + 2 * usize::from(!v4)], packet[17 + 2 * usize::from(!v4)]]);
        assert_eq!(usize::from(whole), payload.len() + length - if v4 { ETHERNET } else { tcp });
        if v4 {
            assert_eq!(checksum(&[&packet[ETHERNET..tcp]]), [0, 0]);
        }
        // With the sum over the segment, what stands in the place of the sum makes the sum of a packet that is not cut.
        let mut uncut = [packet, payload].concat();
        let finished = checksum(&[&uncut[tcp..]]);
        uncut[tcp + TCP_SUM..tcp + TCP_SUM + 2].copy_from_slice(&finished);
        let mut summed = uncut.clone();
        set_sum(&mut summed, tcp);
        assert_eq!(uncut, summed);
        let total = payload.chunks(each).count();
        let mut offset = 0u32;
        let segment = |(number, chunk): (usize, &[u8])| {
            let mut frame = [packet, chunk].concat();
            let bytes = (frame.len() - if v4 { ETHERNET } else { tcp }) as u16;
            let at = if v4 { ETHERNET + 2 } else { ETHERNET + 4 };
            frame[at..at + 2].copy_from_slice(&bytes.to_be_bytes());
            if v4 {
                let id = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add(number as u16);
                frame[18..20].copy_from_slice(&id.to_be_bytes());
                frame[24..26].fill(0);
                let sum = checksum(&[&frame[ETHERNET..tcp]]);
                frame[24..26].copy_from_slice(&sum);
            }
            if number + 1 < total {
                frame[tcp + 13] &= !PSH;
            }
            let sequence = [frame[tcp + 4], frame[tcp + 5], frame[tcp + 6], frame[tcp + 7]];
            let sequence = u32::from_be_bytes(sequence).wrapping_add(offset);
            frame[tcp + 4..tcp + 8].copy_from_slice(&sequence.to_be_bytes());
            offset += chunk.len() as u32;
            set_sum(&mut frame, tcp);
            frame
        };
        payload.chunks(each).enumerate().map(segment).collect()
    }

    /// The packets that runs become when they are cut.
    fn again(packets: &[Vec<u8>], runs: &[Run]) -> Vec<Vec<u8>> {
        let mut rest = packets;
        let mut all = Vec::new();
        for run in runs {
            let (own, others) = rest.split_at(run.packets);
            rest = others;
            match &run.head {
                None => all.extend(own.to_vec()),
                Some(head) => {
                    let payloads: Vec<&[u8]> = own.iter().map(|packet| &packet[head.payload()..]).collect();
                    all.extend(cut(head, &payloads.concat()));
                }
            }
        }
        assert!(rest.is_empty());
        all
    }

    fn found(packets: &[Vec<u8>]) -> Vec<usize> {
        let slices: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let runs = runs(&slices);
        assert!(again(packets, &runs) == packets);
        runs.iter().map(|run| run.packets).collect()
    }

    #[test]
    fn a_bulk_transfer_is_joined_up_to_the_longest_packet_there_is() {
        for v4 in [true, false] {
            let mut stream = Stream::new(v4);
            let packets: Vec<Vec<u8>> = (0..100).map(|_| stream.segment(ACK, 1448)).collect();
            assert_eq!(found(&packets), [45, 45, 10]);
        }
    }

    #[test]
    fn a_short_one_ends_a_run_and_so_does_one_that_is_pushed() {
        for v4 in [true, false] {
            let mut stream = Stream::new(v4);
            let mut packets = Vec::new();
            for (flags, payload) in
                [(ACK, 100), (ACK, 99), (ACK, 100), (ACK | PSH, 100), (ACK, 100), (ACK, 101)]
            {
                packets.push(stream.segment(flags, payload));
            }
            assert_eq!(found(&packets), [2, 2, 1, 1]);
        }
    }

    #[test]
    fn what_differs_in_anything_is_not_joined() {
        const SYN: u8 = 2;
        const CWR: u8 = 128;
        for v4 in [true, false] {
            let mut stream = Stream::new(v4);
            let pair = [stream.segment(ACK, 200), stream.segment(ACK, 200)];
            assert_eq!(found(&pair), [2]);
            // A turned bit, wherever it is: what no check sum covers are the addresses of the link, and they differ then.
            for bit in 0..pair[0].len() * 8 {
                for which in 0..2 {
                    let mut pair = pair.clone();
                    pair[which][bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(found(&pair), [1, 1], "bit {bit} of {which}");
                }
            }
            for flags in [0, ACK | SYN, ACK | CWR, ACK | ECE, ACK | 1, ACK | 4, ACK | 32] {
                assert_eq!(found(&[stream.segment(ACK, 9), stream.segment(flags, 9)]), [1, 1], "{flags}");
            }
            let mut other = Stream { options: vec![1, 1, 0, 0], ..stream.clone() };
            let mut gap = Stream { sequence: stream.sequence.wrapping_add(1), ..stream.clone() };
            let mut late = Stream { identification: 77, ..stream.clone() };
            let first = stream.segment(ACK, 9);
            for next in [&mut other, &mut gap] {
                next.segment(ACK, 9);
                assert_eq!(found(&[first.clone(), next.segment(ACK, 9)]), [1, 1]);
            }
            late.segment(ACK, 9);
            assert_eq!(found(&[first, late.segment(ACK, 9)]).len(), if v4 { 2 } else { 1 });
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_the_same_once_it_is_cut(
            steps in prop::collection::vec((any::<bool>(), 0u8..8, 0usize..4), 0..60),
        ) {
            let mut streams = [Stream::new(true), Stream::new(false)];
            let mut packets: Vec<Vec<u8>> = Vec::new();
            for (v4, what, payload) in steps {
                let stream = &mut streams[usize::from(!v4)];
                match what {
                    0 => stream.sequence = stream.sequence.wrapping_add(5),
                    1 => packets.extend(packets.last().cloned()),
                    2 => packets.push(stream.segment(ACK | PSH, payload * 50)),
                    _ => packets.push(stream.segment(ACK, payload * 50)),
                }
            }
            found(&packets);
        }

        #[test]
        fn no_bytes_are_too_strange(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..5)) {
            prop_assert_eq!(found(&packets), vec![1; packets.len()]);
        }
    }
}
