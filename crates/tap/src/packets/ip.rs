//! The header of IPv4 and IPv6, and the checksum that it shares with TCP and UDP. RFC 791, 8200, 1071 (the checksum).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use snorkel_bpf::tap::Transport;

use crate::event::Ends;

/// Those who speak, by the direction in which they do, as packets between them have their addresses: both of one version.
pub(super) fn ends(ends: &Ends) -> [SocketAddr; 2] {
    let [mut client, mut server] =
        [ends.client, ends.server].map(|end| SocketAddr::new(end.ip().to_canonical(), end.port()));
    if client.is_ipv4() != server.is_ipv4() {
        for end in [&mut client, &mut server] {
            if let IpAddr::V4(four) = end.ip() {
                end.set_ip(four.to_ipv6_mapped().into());
            }
        }
    }
    [client, server]
}

/// How many bytes of a transport, its header with them, a packet between these can have: its length is a number of 16
/// bits, which in IPv4 counts the 20 bytes of the header as well.
pub(super) fn room([client, server]: [SocketAddr; 2]) -> usize {
    usize::from(if client.is_ipv4() && server.is_ipv4() { u16::MAX - 20 } else { u16::MAX })
}

/// Writes the header of a packet with so many bytes of this transport in it, [`room`] at most; gives the sum of what the
/// transport's checksum counts of it.
pub(super) fn header(
    packet: &mut Vec<u8>,
    (from, to): (IpAddr, IpAddr),
    transport: Transport,
    length: usize,
    identification: u16,
) -> u64 {
    const HOPS: u8 = 64;
    let protocol = transport.number();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + length as u16).to_be_bytes());
            packet.extend(identification.to_be_bytes());
            // Not to be fragmented.
            packet.extend([0x40, 0, HOPS, protocol, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            let checksum = fold(sum(packet));
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            sum(&packet[12..20]) + u64::from(protocol) + length as u64
        }
        (from, to) => {
            let six = |address| match address {
                IpAddr::V4(four) => four.to_ipv6_mapped(),
                IpAddr::V6(six) => six,
            };
            let (from, to): (Ipv6Addr, Ipv6Addr) = (six(from), six(to));
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((length as u16).to_be_bytes());
            packet.extend([protocol, HOPS]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            sum(&packet[8..40]) + u64::from(protocol) + length as u64
        }
    }
}

/// The sum of 16-bit words, the last byte filled up with a zero.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    // Words of 32 bits sum up to the same, once the carries are folded in (RFC 1071, 2).
    let word = |word: &[u8]| u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    words.map(word).sum::<u64>() + word(&last)
}

/// The checksum of a sum.
pub(super) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
