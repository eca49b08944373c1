//! Between whom a connection is to be, by the packet that opens it (RFC 791, RFC 8200, RFC 9293).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::event::Ends;

/// Hop-by-hop options, routing and destination options: what may stand before TCP in a packet that was just made.
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const TCP: u8 = 6;

/// The ends, by an IP packet with the beginning of a TCP header in it.
pub(super) fn ends(packet: &[u8]) -> Option<Ends> {
    let (from, to, rest) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            let fixed: &[u8; 20] = packet.first_chunk()?;
            if fixed[9] != TCP {
                return None;
            }
            (IpAddr::V4(four(&fixed[12..])?), IpAddr::V4(four(&fixed[16..])?), packet.get(header..)?)
        }
        6 => {
            let fixed: &[u8; 40] = packet.first_chunk()?;
            let (mut next, mut rest) = (fixed[6], &packet[40..]);
            while EXTENSIONS.contains(&next) {
                let [following, length, ..] = *rest else { return None };
                rest = rest.get((usize::from(length) + 1) * 8..)?;
                next = following;
            }
            if next != TCP {
                return None;
            }
            (IpAddr::V6(six(&fixed[8..])?), IpAddr::V6(six(&fixed[24..])?), rest)
        }
        _ => return None,
    };
    let [s0, s1, d0, d1] = *rest.first_chunk()?;
    let client = SocketAddr::new(from, u16::from_be_bytes([s0, s1]));
    let server = SocketAddr::new(to, u16::from_be_bytes([d0, d1]));
    Some(Ends { client, server })
}

fn four(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

fn six(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ends_are_read_behind_the_options_of_both_protocols() {
        // 10.0.0.1:258 to 10.0.0.2:80, with an option of four bytes.
        let mut four = vec![0x46, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0];
        four.extend([1, 2, 0, 80, 0, 0]);
        let found = ends(&four).unwrap();
        assert_eq!(
            (found.client.to_string(), found.server.to_string()),
            ("10.0.0.1:258".into(), "10.0.0.2:80".into())
        );
        // fd00::1 to fd00::2, with hop-by-hop options.
        let mut six = vec![0x60, 0, 0, 0, 0, 0, 0, 64];
        for last in [1, 2] {
            six.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        }
        six.extend([6, 0, 1, 4, 0, 0, 0, 0]);
        six.extend([1, 2, 0, 80]);
        let found = ends(&six).unwrap();
        assert_eq!(
            (found.client.to_string(), found.server.to_string()),
            ("[fd00::1]:258".into(), "[fd00::2]:80".into())
        );
        six[40] = 17;
        assert_eq!(ends(&six), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_ends_or_none(bytes: Vec<u8>) {
            let _ = ends(&bytes);
        }
    }
}
