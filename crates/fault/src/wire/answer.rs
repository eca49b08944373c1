//! How a packet is turned down: what its sender is told, as if by the one that it was for.
//!
//! TCP gets a reset (RFC 9293 3.5.2), UDP "port unreachable", everything else "administratively prohibited" (RFC 792,
//! RFC 1812 4.3.2, RFC 4443 3.1). What must not be answered is not: resets, errors of ICMP, fragments behind the first, what
//! is for many or comes from nobody in particular (RFC 1122 3.2.2, RFC 4443 2.4 e), nor the traffic by which neighbours find
//! each other (RFC 4861).

use super::checksum::checksum;

const MAC: usize = 6;
/// An Ethernet header without tags.
const ETHERNET: usize = 14;
const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// How far an answer goes.
const TTL: u8 = 64;
/// The largest error of ICMP (RFC 1812 4.3.2.3), and of ICMPv6 (RFC 4443 2.4 c), with its IP header.
const LARGEST_V4: usize = 576;
const LARGEST_V6: usize = 1280;

/// The answer to an Ethernet frame, a frame itself; `None` if it must not be answered, or is no IP.
pub fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let (tags, protocol) = ethernet(frame)?;
    let (to, from) = (frame.get(..MAC)?, frame.get(MAC..2 * MAC)?);
    // A group's bit: broadcast and multicast.
    if to[0] & 1 != 0 || from[0] & 1 != 0 {
        return None;
    }
    let packet = &frame[tags..];
    let answer = match protocol {
        IPV4 => ipv4(packet)?,
        IPV6 => ipv6(packet)?,
        _ => return None,
    };
    Some([from, to, &frame[2 * MAC..tags], &answer].concat())
}

/// Where the packet begins behind addresses and tags, and its protocol.
fn ethernet(frame: &[u8]) -> Option<(usize, u16)> {
    let mut at = ETHERNET;
    loop {
        let protocol = u16::from_be_bytes([*frame.get(at - 2)?, *frame.get(at - 1)?]);
        match protocol {
            DOT1Q | DOT1AD => at += 4,
            _ => return Some((at, protocol)),
        }
    }
}

fn ipv4(packet: &[u8]) -> Option<Vec<u8>> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    let total = usize::from(number(packet, 2)?);
    if first >> 4 != 4 || header < 20 || total < header {
        return None;
    }
    // Behind the packet there may be padding.
    let packet = &packet[..total.min(packet.len())];
    let behind = packet.get(header..)?;
    let fragment = number(packet, 6)? & 0x1fff;
    let source: [u8; 4] = packet[12..16].try_into().ok()?;
    let destination: [u8; 4] = packet[16..20].try_into().ok()?;
    if fragment != 0 || !one_of_v4(source) || !one_of_v4(destination) {
        return None;
    }
    let (protocol, payload) = match packet[9] {
        TCP => (TCP, reset(behind, total - header)?),
        ICMP if !is_query_v4(*behind.first()?) => return None,
        other => {
            let code = if other == UDP { PORT_V4 } else { PROHIBITED_V4 };
            let quoted = &packet[..packet.len().min(LARGEST_V4 - 20 - 8)];
            (ICMP, [&[UNREACHABLE_V4, code, 0, 0, 0, 0, 0, 0], quoted].concat())
        }
    };
    let length = u16::try_from(20 + payload.len()).ok()?.to_be_bytes();
    let mut answer = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, TTL, protocol, 0, 0];
    answer.extend(destination);
    answer.extend(source);
    let sum = checksum(&[&answer]);
    answer[10..12].copy_from_slice(&sum);
    let mut payload = payload;
    if protocol == TCP {
        let length = (payload.len() as u16).to_be_bytes();
        let sum = checksum(&[&destination, &source, &[0, TCP], &length, &payload]);
        payload[16..18].copy_from_slice(&sum);
    } else {
        let sum = checksum(&[&payload]);
        payload[2..4].copy_from_slice(&sum);
    }
    answer.extend(payload);
    Some(answer)
}

const UNREACHABLE_V4: u8 = 3;
const PORT_V4: u8 = 3;
const PROHIBITED_V4: u8 = 13;
const UNREACHABLE_V6: u8 = 1;
const PORT_V6: u8 = 4;
const PROHIBITED_V6: u8 = 1;

/// Echo, router solicitation, time stamp, information, address mask and their answers: all but errors.
fn is_query_v4(kind: u8) -> bool {
    matches!(kind, 0 | 8..=10 | 13..=18)
}

/// Whether an address is one host's: no group's, not everybody's, not this host's own, and not nobody's.
fn one_of_v4(address: [u8; 4]) -> bool {
    !matches!(address[0], 0 | 127 | 224..)
}

fn one_of_v6(address: &[u8]) -> bool {
    address[0] != 0xff && address[..15].iter().any(|byte| *byte != 0)
}

fn ipv6(packet: &[u8]) -> Option<Vec<u8>> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let total = 40 + usize::from(number(packet, 4)?);
    let packet = &packet[..total.min(packet.len())];
    let (source, destination) = (packet.get(8..24)?, packet.get(24..40)?);
    if !one_of_v6(source) || !one_of_v6(destination) {
        return None;
    }
    let (protocol, at) = upper(packet)?;
    let behind = packet.get(at..)?;
    let (protocol, mut payload) = match protocol {
        TCP => (TCP, reset(behind, total.checked_sub(at)?)?),
        ICMPV6 if !is_query_v6(*behind.first()?) => return None,
        other => {
            let code = if other == UDP { PORT_V6 } else { PROHIBITED_V6 };
            let quoted = &packet[..packet.len().min(LARGEST_V6 - 40 - 8)];
            (ICMPV6, [&[UNREACHABLE_V6, code, 0, 0, 0, 0, 0, 0], quoted].concat())
        }
    };
    let length = u16::try_from(payload.len()).ok()?.to_be_bytes();
    let place = if protocol == TCP { 16..18 } else { 2..4 };
    // RFC 8200 8.1: the length has 32 bits, and three zeroes stand before the protocol.
    let sum = checksum(&[destination, source, &[0, 0], &length, &[0, 0, 0, protocol], &payload]);
    payload[place].copy_from_slice(&sum);
    let mut answer = vec![0x60, 0, 0, 0, length[0], length[1], protocol, TTL];
    answer.extend(destination);
    answer.extend(source);
    answer.extend(payload);
    Some(answer)
}

/// Informational messages, without those of neighbours, routers and groups.
fn is_query_v6(kind: u8) -> bool {
    kind >= 128 && !matches!(kind, 130..=137 | 143)
}

/// The protocol behind IPv6's extension headers, and where it begins; `None` for a fragment behind the first.
fn upper(packet: &[u8]) -> Option<(u8, usize)> {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const AUTHENTICATION: u8 = 51;
    const OPTIONS: u8 = 60;
    let (mut protocol, mut at) = (*packet.get(6)?, 40);
    loop {
        let length = match protocol {
            HOP_BY_HOP | ROUTING | OPTIONS => 8 + 8 * usize::from(*packet.get(at + 1)?),
            AUTHENTICATION => 8 + 4 * usize::from(*packet.get(at + 1)?),
            FRAGMENT if number(packet, at + 2)? & 0xfff8 != 0 => return None,
            FRAGMENT => 8,
            _ => return Some((protocol, at)),
        };
        protocol = *packet.get(at)?;
        at += length;
    }
}

/// The reset for a segment of so many bytes, of which the first are given; without its check sum.
fn reset(segment: &[u8], length: usize) -> Option<Vec<u8>> {
    let header = segment.get(..20)?;
    let flags = header[13];
    if flags & RST != 0 {
        return None;
    }
    let long = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (sequence, acknowledgement, answer) = if flags & ACK != 0 {
        (long(8), 0, RST)
    } else {
        let data = length.checked_sub(usize::from(header[12] >> 4) * 4)?;
        // What the segment takes of the sequence: its data, and one each for its begin and end.
        let takes = data as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        (0, long(4).wrapping_add(takes), RST | ACK)
    };
    let mut reset = Vec::with_capacity(20);
    reset.extend([header[2], header[3], header[0], header[1]]);
    reset.extend(sequence.to_be_bytes());
    reset.extend(acknowledgement.to_be_bytes());
    reset.extend([5 << 4, answer, 0, 0, 0, 0, 0, 0]);
    Some(reset)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THERE: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn frame_v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0];
        packet.extend((20 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 7]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        [&THERE[..], &HERE, &IPV4.to_be_bytes(), &packet, payload].concat()
    }

    fn frame_v6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, 64]);
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        packet.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        [&THERE[..], &HERE, &IPV6.to_be_bytes(), &packet, payload].concat()
    }

    fn segment(flags: u8, data: usize) -> Vec<u8> {
        let mut segment = vec![0x30, 0x39, 0, 80];
        segment.extend(1000u32.to_be_bytes());
        segment.extend(5000u32.to_be_bytes());
        segment.extend([5 << 4, flags, 1, 0, 0, 0, 0, 0]);
        segment.resize(20 + data, 7);
        segment
    }

    /// What is right sums up to nothing.
    fn assert_sums_are_right(answer: &[u8]) {
        let packet = &answer[ETHERNET..];
        if packet[0] >> 4 == 4 {
            assert_eq!(checksum(&[&packet[..20]]), [0, 0]);
            let length = (packet.len() as u16 - 20).to_be_bytes();
            let pseudo = [&packet[12..20], &[0, TCP], &length].concat();
            let pseudo: &[u8] = if packet[9] == TCP { &pseudo } else { &[] };
            assert_eq!(checksum(&[pseudo, &packet[20..]]), [0, 0]);
        } else {
            let pseudo = [&packet[8..40], &[0, 0], &packet[4..6], &[0, 0, 0, packet[6]]].concat();
            assert_eq!(checksum(&[&pseudo, &packet[40..]]), [0, 0]);
        }
    }

    #[test]
    fn a_syn_is_refused() {
        for frame in [frame_v4(TCP, 0x4000, &segment(SYN, 0)), frame_v6(TCP, &segment(SYN, 0))] {
            let answer = answer(&frame).unwrap();
            assert_eq!((&answer[..6], &answer[6..12]), (&HERE[..], &THERE[..]));
            assert_sums_are_right(&answer);
            let reset = &answer[answer.len() - 20..];
            assert_eq!(reset[..4], [0, 80, 0x30, 0x39]);
            assert_eq!(reset[4..8], [0; 4]);
            assert_eq!(reset[8..12], 1001u32.to_be_bytes());
            assert_eq!(reset[13], RST | ACK);
        }
    }

    #[test]
    fn data_of_a_connection_is_reset_where_its_peer_expects_it() {
        let answer = answer(&frame_v4(TCP, 0, &segment(ACK, 33))).unwrap();
        assert_sums_are_right(&answer);
        let reset = &answer[answer.len() - 20..];
        assert_eq!((&reset[4..8], reset[13]), (&5000u32.to_be_bytes()[..], RST));
        let fin = super::answer(&frame_v4(TCP, 0, &segment(FIN, 33))).unwrap();
        assert_eq!(fin[fin.len() - 12..fin.len() - 8], 1034u32.to_be_bytes());
    }

    #[test]
    fn udp_is_told_that_the_port_is_unreachable_and_quoted() {
        let payload = [9; 1400];
        let frame = frame_v4(UDP, 0, &payload);
        let answer = answer(&frame).unwrap();
        assert_sums_are_right(&answer);
        assert_eq!(answer.len(), ETHERNET + LARGEST_V4);
        assert_eq!((answer[ETHERNET + 9], &answer[34..36]), (ICMP, &[UNREACHABLE_V4, PORT_V4][..]));
        assert_eq!(answer[42..], frame[ETHERNET..][..answer.len() - 42]);
        let frame = frame_v6(UDP, &payload);
        let answer = super::answer(&frame).unwrap();
        assert_sums_are_right(&answer);
        assert_eq!(answer.len(), ETHERNET + LARGEST_V6);
        assert_eq!((answer[20], &answer[54..56]), (ICMPV6, &[UNREACHABLE_V6, PORT_V6][..]));
        assert_eq!(answer[62..], frame[ETHERNET..][..answer.len() - 62]);
    }

    #[test]
    fn an_echo_is_told_that_it_is_prohibited() {
        let v4 = answer(&frame_v4(ICMP, 0, &[8, 0, 0, 0, 0, 1, 0, 1])).unwrap();
        assert_eq!(v4[34..36], [UNREACHABLE_V4, PROHIBITED_V4]);
        let v6 = answer(&frame_v6(ICMPV6, &[128, 0, 0, 0, 0, 1, 0, 1])).unwrap();
        assert_eq!(v6[54..56], [UNREACHABLE_V6, PROHIBITED_V6]);
        assert_sums_are_right(&v4);
        assert_sums_are_right(&v6);
    }

    #[test]
    fn a_tag_is_kept() {
        let plain = frame_v4(UDP, 0, &[1; 8]);
        let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
        let answer = answer(&tagged).unwrap();
        assert_eq!(answer[12..18], [0x81, 0, 0, 5, 8, 0]);
    }

    #[test]
    fn what_must_not_be_answered_is_not() {
        let with = |at: usize, byte: u8| {
            let mut frame = frame_v4(UDP, 0, &[1; 8]);
            frame[at] = byte;
            frame
        };
        let v6_with = |at: usize, bytes: &[u8]| {
            let mut frame = frame_v6(UDP, &[1; 8]);
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        let silent = [
            ("a reset", frame_v4(TCP, 0, &segment(RST, 0))),
            ("a reset, v6", frame_v6(TCP, &segment(RST | ACK, 0))),
            ("an error", frame_v4(ICMP, 0, &[3, 1, 0, 0, 0, 0, 0, 0])),
            ("a redirect", frame_v4(ICMP, 0, &[5, 1, 0, 0, 0, 0, 0, 0])),
            ("an error, v6", frame_v6(ICMPV6, &[1, 0, 0, 0, 0, 0, 0, 0])),
            ("a solicitation", frame_v6(ICMPV6, &[135, 0, 0, 0, 0, 0, 0, 0])),
            ("a later fragment", frame_v4(UDP, 185, &[1; 8])),
            ("a later fragment, v6", frame_v6(44, &[UDP, 0, 5, 0xa0, 0, 0, 0, 1, 1, 1, 1, 1])),
            ("for everybody on the link", with(0, 0xff)),
            ("for everybody", with(ETHERNET + 16, 255)),
            ("for a group", with(ETHERNET + 16, 224)),
            ("from nobody", with(ETHERNET + 12, 0)),
            ("from a group", with(ETHERNET + 12, 239)),
            ("for a group, v6", v6_with(ETHERNET + 24, &[0xff])),
            ("from nobody, v6", v6_with(ETHERNET + 8, &[0; 16])),
            ("no IP", with(13, 6)),
        ];
        for (what, frame) in silent {
            assert_eq!(answer(&frame), None, "{what}");
        }
        let first = frame_v6(44, &[UDP, 0, 0, 1, 0, 0, 0, 1, 1, 1, 1, 1]);
        assert!(answer(&first).is_some());
    }

    proptest! {
        #[test]
        fn no_answer_is_answered(protocol: u8, fragment in 0u16..2, mut payload: Vec<u8>, v6: bool) {
            payload.truncate(1400);
            let frame = if v6 { frame_v6(protocol, &payload) } else { frame_v4(protocol, fragment << 13, &payload) };
            if let Some(answer) = answer(&frame) {
                assert_sums_are_right(&answer);
                prop_assert_eq!(super::answer(&answer), None);
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>, cut in 0usize..70) {
            let _ = answer(&bytes);
            let _ = answer(&[&THERE[..], &HERE, &IPV4.to_be_bytes(), &[0x45], &bytes].concat());
            let _ = answer(&[&THERE[..], &HERE, &IPV6.to_be_bytes(), &[0x60], &bytes].concat());
            let frame = frame_v4(TCP, 0, &segment(SYN, 0));
            let _ = answer(&frame[..cut.min(frame.len())]);
        }
    }
}
