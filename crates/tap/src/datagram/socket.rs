//! Datagrams with both their addresses: received with where they were sent to, sent from an address that another socket
//! is bound to.
//!
//! The first is an option of the socket (udp(7), IP_RECVORIGDSTADDR). For the second there is only a raw socket (raw(7)):
//! the application has the port, and shares it with nobody. The kernel makes the IP header, and fragments where it must;
//! what a raw socket would receive is kept from it by a filter.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, bind, ipproto, socket_with};

use crate::event::Ends;

/// The length of a UDP header (RFC 768).
const HEADER: usize = 8;
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A socket on an ephemeral port of this address that tells where what it receives was sent to.
pub(crate) fn receiver(address: IpAddr) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::DGRAM, FLAGS, None)?;
    let (level, option) = match address {
        IpAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVORIGDSTADDR),
        IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVORIGDSTADDR),
    };
    let on: libc::c_int = 1;
    set(socket.as_fd(), level, option, &on)?;
    bind(&socket, &SocketAddr::new(address, 0))?;
    Ok(socket)
}

/// Receives a datagram, without waiting: how long it is, and between whom. None if the kernel did not tell them.
pub(crate) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> rustix::io::Result<(usize, Option<Ends>)> {
    // SAFETY: a socket address of zeros is one.
    let mut sender: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    // Aligned as control messages are.
    let mut control = [0u64; 16];
    let mut part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: a message header of zeros is one; it points nowhere, for no bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut sender).cast();
    message.msg_namelen = size_of_val(&sender) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: every pointer in the header is to a local of the length that stands beside it; the socket is open.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| last())?;
    // SAFETY: as for any structure of numbers, its bytes may be looked at.
    let sender =
        unsafe { std::slice::from_raw_parts((&raw const sender).cast::<u8>(), size_of_val(&sender)) };
    // SAFETY: the bytes of the array, as far as the kernel has filled it.
    let control = unsafe {
        std::slice::from_raw_parts(
            control.as_ptr().cast::<u8>(),
            message.msg_controllen.min(size_of_val(&control)),
        )
    };
    let ends = address(sender).zip(original(control));
    Ok((length.min(into.len()), ends.map(|(client, server)| Ends { client, server })))
}

/// The original destination among control messages: `struct cmsghdr` is a length, a level and a type.
fn original(control: &[u8]) -> Option<SocketAddr> {
    const HEAD: usize = size_of::<libc::cmsghdr>();
    let mut rest = control;
    loop {
        let length = usize::from_ne_bytes(*rest.first_chunk()?);
        let level = i32::from_ne_bytes(*rest.get(size_of::<usize>()..)?.first_chunk()?);
        let kind = i32::from_ne_bytes(*rest.get(size_of::<usize>() + 4..)?.first_chunk()?);
        let body = rest.get(HEAD..length)?;
        if [(libc::SOL_IP, libc::IP_ORIGDSTADDR), (libc::SOL_IPV6, libc::IPV6_ORIGDSTADDR)]
            .contains(&(level, kind))
        {
            return address(body);
        }
        rest = rest.get(length.next_multiple_of(size_of::<usize>())..)?;
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = libc::c_int::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let octets: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(octets), port).into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(octets), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Raw sockets that send from any address and port of the namespace that they were made in.
#[derive(Debug)]
pub(crate) struct Sender {
    v4: OwnedFd,
    v6: Option<OwnedFd>,
}

impl Sender {
    /// Makes them, in the calling thread's namespace. Needs CAP_NET_RAW.
    pub(crate) fn here() -> rustix::io::Result<Sender> {
        let v6 = match raw(AddressFamily::INET6) {
            // Without IPv6 nobody is answered over it.
            Err(Errno::AFNOSUPPORT) => None,
            v6 => Some(v6?),
        };
        Ok(Sender { v4: raw(AddressFamily::INET)?, v6 })
    }

    /// Sends what the server answered, from its address to the client's.
    pub(crate) fn answer(&self, ends: &Ends, payload: &[u8]) -> rustix::io::Result<()> {
        let datagram = datagram(ends, payload).ok_or(Errno::MSGSIZE)?;
        match (ends.server, ends.client) {
            (SocketAddr::V4(server), SocketAddr::V4(client)) => {
                // SAFETY: a socket address of zeros is one.
                let mut to: libc::sockaddr_in = unsafe { std::mem::zeroed() };
                to.sin_family = libc::AF_INET as libc::sa_family_t;
                to.sin_addr.s_addr = u32::from_ne_bytes(client.ip().octets());
                let from = libc::in_addr { s_addr: u32::from_ne_bytes(server.ip().octets()) };
                let nowhere = libc::in_addr { s_addr: 0 };
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: nowhere };
                send(self.v4.as_fd(), &to, (libc::SOL_IP, libc::IP_PKTINFO), &info, &datagram)
            }
            (SocketAddr::V6(server), SocketAddr::V6(client)) => {
                let v6 = self.v6.as_ref().ok_or(Errno::AFNOSUPPORT)?;
                // SAFETY: a socket address of zeros is one.
                let mut to: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
                to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                to.sin6_addr.s6_addr = client.ip().octets();
                to.sin6_scope_id = client.scope_id();
                let from = libc::in6_addr { s6_addr: server.ip().octets() };
                let info = libc::in6_pktinfo { ipi6_addr: from, ipi6_ifindex: client.scope_id() };
                send(v6.as_fd(), &to, (libc::SOL_IPV6, libc::IPV6_PKTINFO), &info, &datagram)
            }
            _ => Err(Errno::AFNOSUPPORT),
        }
    }
}

fn raw(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let protocol: Option<Protocol> = Some(ipproto::UDP);
    let socket = socket_with(family, SocketType::RAW, FLAGS, protocol)?;
    // One instruction: nothing is kept (socket(7), SO_ATTACH_FILTER; linux/filter.h).
    let mut nothing = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let filter = libc::sock_fprog { len: 1, filter: &raw mut nothing };
    set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)?;
    Ok(socket)
}

/// A UDP datagram between these (RFC 768; RFC 8200, 8.1); none if it is too long to be one.
fn datagram(ends: &Ends, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(HEADER + payload.len()).ok()?;
    let mut bytes = Vec::with_capacity(usize::from(length));
    bytes.extend(ends.server.port().to_be_bytes());
    bytes.extend(ends.client.port().to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let mut sum = u32::from(length) + libc::IPPROTO_UDP as u32;
    for address in [ends.server.ip(), ends.client.ip()] {
        sum = match address {
            IpAddr::V4(address) => add(sum, &address.octets()),
            IpAddr::V6(address) => add(sum, &address.octets()),
        };
    }
    sum = add(sum, &bytes);
    // 0 would say that there is none.
    let checksum = match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    };
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    Some(bytes)
}

/// Adds numbers of 16 bits in one's complement (RFC 1071).
fn add(sum: u32, bytes: &[u8]) -> u32 {
    let mut sum = u64::from(sum);
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u32
}

/// Sends bytes to an address, with one control message.
fn send<A, C>(
    socket: BorrowedFd<'_>,
    to: &A,
    (level, kind): (libc::c_int, libc::c_int),
    value: &C,
    bytes: &[u8],
) -> rustix::io::Result<()> {
    let size = size_of::<C>() as u32;
    // SAFETY: these only count.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size), libc::CMSG_LEN(size)) };
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a message header of zeros is one; it points nowhere, for no bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = std::ptr::from_ref(to).cast_mut().cast();
    message.msg_namelen = size_of::<A>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = (space as usize).min(size_of_val(&control));
    // SAFETY: the control buffer has 64 bytes, more than a header and either of the two structures for packets; the first
    // header is at its beginning, aligned for it, and its data lies behind it.
    unsafe {
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = level;
        (*head).cmsg_type = kind;
        (*head).cmsg_len = length as usize;
        std::ptr::copy_nonoverlapping(
            std::ptr::from_ref(value).cast::<u8>(),
            libc::CMSG_DATA(head),
            size_of::<C>(),
        );
    }
    // SAFETY: every pointer in the header is to something that lives as long as the call, of the length that stands
    // beside it, and is only read; the socket is open.
    let sent = unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    if sent < 0 { Err(last()) } else { Ok(()) }
}

fn set<T>(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &T,
) -> rustix::io::Result<()> {
    // SAFETY: the kernel reads as many bytes of `value` as it has; the socket is open.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(last()) }
}

fn last() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_adds_up_over_both_protocols() {
        for (server, client) in [("10.0.0.1:53", "10.0.0.2:4000"), ("[fd00::1]:53", "[fd00::2]:4000")] {
            let ends = Ends { client: client.parse().unwrap(), server: server.parse().unwrap() };
            for payload in [&b""[..], b"odd", b"even"] {
                let bytes = datagram(&ends, payload).unwrap();
                assert_eq!(&bytes[..6], [0, 53, 0x0f, 0xa0, 0, 8 + payload.len() as u8]);
                let mut sum = bytes.len() as u32 + 17;
                for address in [ends.client.ip(), ends.server.ip()] {
                    sum = match address {
                        IpAddr::V4(address) => add(sum, &address.octets()),
                        IpAddr::V6(address) => add(sum, &address.octets()),
                    };
                }
                assert_eq!(add(sum, &bytes), 0xffff);
            }
        }
        let ends = Ends { client: "10.0.0.2:1".parse().unwrap(), server: "10.0.0.1:2".parse().unwrap() };
        assert_eq!(datagram(&ends, &[0; 65536]), None);
    }
}
