//! What the kernel tells of sockets over sock_diag(7), as far as /proc/net does not: which IPv6 sockets take no IPv4.
//!
//! Written down in linux/inet_diag.h. The kernel may lack the module for a protocol (tcp_diag, udp_diag); then the
//! question is an error, and not an empty answer.

use std::collections::HashSet;

use crate::Result;
use crate::netlink::Netlink;
use crate::parse::v6_only;
use crate::wire::Request;

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `TCP_CLOSE` and `TCP_LISTEN` of net/tcp_states.h as a mask: a UDP socket that is connected to nobody, and a TCP
/// socket that waits.
const WAITING: u32 = 1 << 7 | 1 << 10;
/// The length of `struct inet_diag_sockid`; all zeroes in a dump mean any socket.
const SOCKID: usize = 48;

/// The inodes of the IPv6 sockets that wait in the calling thread's namespace and take no IPv4 (ipv6(7), IPV6_V6ONLY).
/// `protocol` is `libc::IPPROTO_TCP` or `IPPROTO_UDP`.
pub fn v6_only_sockets(protocol: u8) -> Result<HashSet<u64>> {
    let what = "ask which sockets take no IPv4";
    let mut netlink = Netlink::open(what, Some(rustix::net::netlink::SOCK_DIAG))?;
    let mut request = Request::new(SOCK_DIAG_BY_FAMILY, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
    // struct inet_diag_req_v2: family, protocol, extensions, padding, states, one socket.
    request.raw(&[libc::AF_INET6 as u8, protocol, 0, 0]).raw(&WAITING.to_ne_bytes()).raw(&[0; SOCKID]);
    Ok(netlink.dump(what, &request, SOCK_DIAG_BY_FAMILY, v6_only)?.into_iter().collect())
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
            }
        };
        netns.run(inside).unwrap();
    }
}
