//! What the kernel tells of sockets over sock_diag(7): which wait, and which IPv6 sockets take no IPv4.
//!
//! Written down in linux/inet_diag.h. The kernel may lack the module for a protocol (tcp_diag, udp_diag); then the
//! question is an error, and not an empty answer.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::Result;
use crate::netlink::Netlink;
use crate::parse::{v6_only, waiting};
use crate::wire::Request;

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `TCP_CLOSE` of net/tcp_states.h as a mask: a UDP socket that is connected to nobody.
const UNCONNECTED: u32 = 1 << 7;
/// `TCP_LISTEN` as a mask. With any other state beside it the kernel would walk all connections of the machine, in all
/// namespaces (inet_diag_dump_icsk of net/ipv4/inet_diag.c, tcp_diag.c).
const LISTENING: u32 = 1 << 10;
/// The length of `struct inet_diag_sockid`; all zeroes in a dump mean any socket.
const SOCKID: usize = 48;

/// The inodes of the IPv6 sockets that wait in the calling thread's namespace and take no IPv4 (ipv6(7), IPV6_V6ONLY).
/// `protocol` is `libc::IPPROTO_TCP` or `IPPROTO_UDP`.
pub fn v6_only_sockets(protocol: u8) -> Result<HashSet<u64>> {
    let what = "ask which sockets take no IPv4";
    let mut netlink = Netlink::open(what, Some(rustix::net::netlink::SOCK_DIAG))?;
    let request = all_that_wait(libc::AF_INET6, protocol);
    Ok(netlink.dump(what, &request, SOCK_DIAG_BY_FAMILY, v6_only)?.into_iter().collect())
}

/// A socket that waits for connections or packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WaitingSocket {
    /// Its own end; the unspecified address for all.
    pub at: SocketAddr,
    /// An IPv6 socket that takes no IPv4.
    pub v6_only: bool,
}

/// The sockets that wait in the calling thread's namespace: TCP sockets that listen, UDP sockets that are connected to
/// nobody. `protocol` is `libc::IPPROTO_TCP` or `IPPROTO_UDP`.
pub fn waiting_sockets(protocol: u8) -> Result<Vec<WaitingSocket>> {
    let what = "ask which sockets wait";
    let mut netlink = Netlink::open(what, Some(rustix::net::netlink::SOCK_DIAG))?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let request = all_that_wait(family, protocol);
        found.extend(netlink.dump(what, &request, SOCK_DIAG_BY_FAMILY, waiting)?);
    }
    Ok(found)
}

fn all_that_wait(family: libc::c_int, protocol: u8) -> Request {
    let mut request = Request::new(SOCK_DIAG_BY_FAMILY, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
    // struct inet_diag_req_v2: family, protocol, extensions, padding, states, one socket.
    let states = if libc::c_int::from(protocol) == libc::IPPROTO_TCP { LISTENING } else { UNCONNECTED };
    request.raw(&[family as u8, protocol, 0, 0]).raw(&states.to_ne_bytes()).raw(&[0; SOCKID]);
    request
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketAddrV6, SocketType, bind, listen, socket, sockopt};
    use snorkel_netns::Netns;

    use super::*;

    #[test]
    fn a_socket_that_takes_no_ipv4_is_told_from_one_that_does() {
        let netns = Netns::private().expect("needs root: a network namespace is made");
        let inside = || {
            let open = |kind, only, port| {
                let fd = socket(AddressFamily::INET6, kind, None).unwrap();
                sockopt::set_ipv6_v6only(&fd, only).unwrap();
                bind(&fd, &SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, port, 0, 0)).unwrap();
                if kind == SocketType::STREAM {
                    listen(&fd, 1).unwrap();
                }
                let inode = rustix::fs::fstat(&fd).unwrap().st_ino;
                (fd, inode)
            };
            for (kind, protocol) in
                [(SocketType::STREAM, libc::IPPROTO_TCP), (SocketType::DGRAM, libc::IPPROTO_UDP)]
            {
                let (only, both) = (open(kind, true, 8080), open(kind, false, 8081));
                let found = v6_only_sockets(protocol as u8).unwrap();
                assert_eq!(found, [only.1].into(), "not {}", both.1);
                let mut waiting = waiting_sockets(protocol as u8).unwrap();
                waiting.sort_by_key(|socket| socket.at.port());
                let everywhere = |port, v6_only| WaitingSocket {
                    at: (std::net::Ipv6Addr::UNSPECIFIED, port).into(),
                    v6_only,
                };
                assert_eq!(waiting, [everywhere(8080, true), everywhere(8081, false)]);
            }
        };
        netns.run(inside).unwrap();
    }
}
