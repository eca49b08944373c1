//! The PROXY protocol (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>): the client's address, said to the
//! application before the client's first word.

use std::net::{IpAddr, SocketAddr};

use crate::event::Ends;

/// Which version of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

impl Proxy {
    /// The header for a TCP connection between these.
    pub fn header(self, ends: &Ends) -> Vec<u8> {
        let (client, server) = (canonical(ends.client), canonical(ends.server));
        match self {
            Proxy::V1 => {
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let (from, to) = (client.ip(), server.ip());
                format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), server.port()).into_bytes()
            }
            Proxy::V2 => {
                let mut addresses = Vec::new();
                for address in [client, server] {
                    match address.ip() {
                        IpAddr::V4(ip) => addresses.extend(ip.octets()),
                        IpAddr::V6(ip) => addresses.extend(ip.octets()),
                    }
                }
                addresses.extend(client.port().to_be_bytes());
                addresses.extend(server.port().to_be_bytes());
                // Version 2, PROXY; AF_INET or AF_INET6, STREAM.
                let family = if client.is_ipv4() { 0x11 } else { 0x21 };
                let mut header = SIGNATURE.to_vec();
                header.extend([0x21, family]);
                // 12 or 36.
                header.extend((addresses.len() as u16).to_be_bytes());
                header.extend(addresses);
                header
            }
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_the_specification() {
        let ends = Ends {
            client: "192.168.0.1:56324".parse().unwrap(),
            server: "192.168.0.11:443".parse().unwrap(),
        };
        let one = Proxy::V1.header(&ends);
        assert_eq!(String::from_utf8(one).unwrap(), "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
        let two = Proxy::V2.header(&ends);
        assert_eq!(
            two,
            [&SIGNATURE[..], &[0x21, 0x11, 0, 12, 192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 1, 187]]
                .concat()
        );
        let six = Ends { client: "[fd88::4]:1".parse().unwrap(), server: "[fd88::2]:80".parse().unwrap() };
        assert_eq!(Proxy::V1.header(&six), b"PROXY TCP6 fd88::4 fd88::2 1 80\r\n");
        assert_eq!(Proxy::V2.header(&six).len(), 16 + 36);
    }
}
