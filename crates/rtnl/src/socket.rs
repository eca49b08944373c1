//! The rtnetlink socket (rtnetlink(7)): what it can be asked is in `query`, what it changes in `change` and `qdisc`.

use std::os::fd::OwnedFd;

use snorkel_netns::Netns;

use crate::Result;
use crate::netlink::{Netlink, ROUTE};

/// An rtnetlink socket. It belongs to the namespace that it was made in, wherever it is used.
#[derive(Debug)]
pub struct Socket {
    pub(crate) netlink: Netlink,
    /// Whether the kernel checks requests strictly (since 4.20). One that does not check passes over attributes that
    /// it does not know, also over the one that names another namespace.
    pub(crate) strict: bool,
    /// How many links the socket's own namespace had when it was last asked; 0 if it never was.
    pub(crate) own_links: usize,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Result<Socket> {
        Ok(Socket::over(Netlink::open("open an rtnetlink socket", ROUTE)?))
    }

    /// Takes over an rtnetlink socket that somebody else made, and on which no answer is under way.
    pub fn adopt(fd: OwnedFd) -> Result<Socket> {
        Ok(Socket::over(Netlink::adopt("bind an rtnetlink socket", fd)?))
    }

    fn over(netlink: Netlink) -> Socket {
        let strict = netlink.set_option(libc::NETLINK_GET_STRICT_CHK, "NETLINK_GET_STRICT_CHK");
        Socket { netlink, strict, own_links: 0 }
    }

    /// Opens a socket inside a namespace, for use from anywhere.
    pub fn open_in(netns: &Netns) -> Result<Socket> {
        netns.run(Socket::open)?
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> OwnedFd {
        socket.netlink.into_fd()
    }
}
