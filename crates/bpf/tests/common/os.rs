//! System calls that the tests need beside the crate's own.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use snorkel_netns::Netns;
use snorkel_rtnl::IfIndex;

/// Keeps a namespace from sending what no test asked for: addresses are used at once, routers are not looked for.
pub(crate) fn no_ipv6_chatter(netns: &Netns) {
    set(
        netns,
        &[("default/accept_dad", "0"), ("default/router_solicitations", "0"), ("default/addr_gen_mode", "1")],
    );
}

/// Keeps links that are made from now on without IPv6.
pub(crate) fn no_ipv6_for_new_links(netns: &Netns) {
    set(netns, &[("default/disable_ipv6", "1")]);
}

pub(crate) fn no_ipv6_at_all(netns: &Netns) {
    set(netns, &[("all/disable_ipv6", "1"), ("default/disable_ipv6", "1")]);
}

fn set(netns: &Netns, values: &[(&str, &str)]) {
    netns
        .run(|| {
            for (name, value) in values {
                // /proc/thread-self/net is the thread's namespace, /proc/sys/net too.
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}"), value).unwrap();
            }
        })
        .unwrap();
}

/// Turns off what lets a link take super-packets and unfinished checksums (ethtool(8), linux/ethtool.h).
pub(crate) fn no_offloads(netns: &Netns, link: &str) {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    const STXCSUM: u32 = 0x17;
    const SSG: u32 = 0x19;
    const STSO: u32 = 0x1f;
    const SGSO: u32 = 0x24;
    netns
        .run(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            for command in [STXCSUM, SSG, STSO, SGSO] {
                let mut value = [command, 0u32];
                // SAFETY: an ifreq is plain data, of which zeros are a value.
                let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
                for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
                    *to = from as libc::c_char;
                }
                request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
                // SAFETY: the kernel reads the name and the two words that the pointer leads to; all are alive.
                let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
                assert_eq!(done, 0, "{command:#x}: {}", io::Error::last_os_error());
            }
        })
        .unwrap();
}

/// A packet socket on a link of the calling thread's namespace. It receives nothing.
pub(crate) fn packet_socket(link: IfIndex) -> OwnedFd {
    // SAFETY: the call takes numbers, and its descriptor is owned by nobody else.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: a sockaddr_ll is plain data, of which zeros are a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = link.get() as i32;
    let length = size_of_val(&address) as u32;
    // SAFETY: the kernel reads `length` bytes of the address, which has as many.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(bound, 0, "{}", io::Error::last_os_error());
    socket
}

/// Sends bytes over a connected or bound socket.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) {
    // SAFETY: the kernel reads as many bytes as there are.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    assert_eq!(sent, bytes.len() as isize, "{}", io::Error::last_os_error());
}

/// Has a socket tell the mark of what it receives (`SO_RCVMARK`, since 5.19).
pub(crate) fn tell_marks(socket: &UdpSocket) {
    const SO_RCVMARK: libc::c_int = 75;
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads an int, which lives.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_RCVMARK, (&raw const on).cast(), 4)
    };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Receives a datagram and the mark it arrived with.
pub(crate) fn receive_with_mark(socket: &UdpSocket) -> (Vec<u8>, u32) {
    let mut data = [0u8; 2048];
    let mut control = [0u64; 16];
    let mut slice = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: a msghdr is plain data, of which zeros are a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    // SAFETY: the buffers live, and are as long as they are said to be.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    assert!(length >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel wrote whole control messages into the aligned buffer; the first is there if there is any.
    let mark = unsafe {
        let first = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!first.is_null(), "no mark was told");
        assert_eq!(((*first).cmsg_level, (*first).cmsg_type), (libc::SOL_SOCKET, libc::SO_MARK));
        libc::CMSG_DATA(first).cast::<u32>().read_unaligned()
    };
    (data[..length as usize].to_vec(), mark)
}
