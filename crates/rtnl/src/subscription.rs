//! What the kernel tells unasked: that something has changed, and in which namespace (netlink(7), multicast groups).
//!
//! An event is a reason to look again, not the look itself: it says what kind of thing changed, and nothing of its
//! state. So nothing is wrong if one is lost, as long as it is known that one was.

use std::collections::VecDeque;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt;
use snorkel_netns::Netns;

use crate::netlink::{ROUTE, netlink_socket, try_set_option, write_option};
use crate::wire::messages;
use crate::{Error, Event, EventKind, NsId, Result, parse};

/// What to hear of: a set of rtnetlink's multicast groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups(u32);

impl Groups {
    /// Links.
    pub const LINKS: Groups = Groups(group(libc::RTNLGRP_LINK));
    /// IPv4 and IPv6 addresses.
    pub const ADDRESSES: Groups = Groups(group(libc::RTNLGRP_IPV4_IFADDR) | group(libc::RTNLGRP_IPV6_IFADDR));
    /// IPv4 and IPv6 routes.
    pub const ROUTES: Groups = Groups(group(libc::RTNLGRP_IPV4_ROUTE) | group(libc::RTNLGRP_IPV6_ROUTE));
    /// Neighbours, and the entries of bridges' forwarding tables.
    pub const NEIGHBOURS: Groups = Groups(group(libc::RTNLGRP_NEIGH));
    /// Namespaces that are given an id, or lose it as they die.
    pub const NSIDS: Groups = Groups(group(libc::RTNLGRP_NSID));
    /// All of these.
    pub const ALL: Groups = Groups(
        Groups::LINKS.0 | Groups::ADDRESSES.0 | Groups::ROUTES.0 | Groups::NEIGHBOURS.0 | Groups::NSIDS.0,
    );
}

impl BitOr for Groups {
    type Output = Groups;
    fn bitor(self, other: Groups) -> Groups {
        Groups(self.0 | other.0)
    }
}

/// The bit of a group in the address of a socket.
const fn group(number: libc::c_uint) -> u32 {
    1 << (number - 1)
}

/// A socket that hears of changes.
#[derive(Debug)]
pub struct Subscription {
    fd: OwnedFd,
    buffer: Vec<u8>,
    waiting: VecDeque<Event>,
}

impl Subscription {
    /// Listens to changes in the calling thread's namespace from now on.
    ///
    /// With `all_nsids` also in every other namespace *that has an id here* (give it one with `Socket::nsid`); this
    /// needs CAP_NET_BROADCAST.
    pub fn open(groups: Groups, all_nsids: bool) -> Result<Subscription> {
        const BUFFER: usize = 64 * 1024;
        const QUEUE: usize = 4 * 1024 * 1024;
        let what = "listen to changes of the network";
        let fd = netlink_socket(what, ROUTE)?;
        if all_nsids {
            try_set_option(&fd, libc::NETLINK_LISTEN_ALL_NSID)
                .map_err(|e| Error::os("listen to changes in other network namespaces", e))?;
        }
        // A large queue is a courtesy: the force needs CAP_NET_ADMIN, and an overrun is told.
        if sockopt::set_socket_recv_buffer_size_force(&fd, QUEUE).is_err() {
            let _ = sockopt::set_socket_recv_buffer_size(&fd, QUEUE);
        }
        // The groups come last, so that nothing is heard with half the options.
        for number in (1..=32).filter(|number| groups.0 & group(*number) != 0) {
            let number = number.cast_signed();
            write_option(&fd, libc::NETLINK_ADD_MEMBERSHIP, number).map_err(|e| Error::os(what, e))?;
        }
        Ok(Subscription { fd, buffer: vec![0; BUFFER], waiting: VecDeque::new() })
    }

    /// Listens to changes in a namespace, from anywhere. As [`Subscription::open`].
    pub fn open_in(netns: &Netns, groups: Groups, all_nsids: bool) -> Result<Subscription> {
        netns.run(|| Subscription::open(groups, all_nsids))?
    }

    /// The next event, `None` if there is none yet. Never waits: poll [`Subscription::as_fd`] for that, after this has
    /// said `None`.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends; here None means: not yet")]
    pub fn next(&mut self) -> Result<Option<Event>> {
        const OVERRUN: Event = Event { kind: EventKind::Overrun, removed: false, nsid: None };
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            let received = match receive(&self.fd, &mut self.buffer) {
                Ok(received) => received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Some(OVERRUN)),
                Err(e) => return Err(Error::os("hear of changes of the network", e)),
            };
            if !received.from_kernel {
                continue;
            }
            if received.truncated {
                return Ok(Some(OVERRUN));
            }
            for message in messages(&self.buffer[..received.length]) {
                match message {
                    Ok(message) => self.waiting.extend(parse::event(&message, received.nsid)),
                    // Something was said and not understood: that is as good as lost.
                    Err(_) => self.waiting.push_back(OVERRUN),
                }
            }
        }
    }
}

impl AsFd for Subscription {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What came out of the socket, besides the bytes.
struct Received {
    length: usize,
    truncated: bool,
    from_kernel: bool,
    nsid: Option<NsId>,
}

/// Receives a datagram with its control messages, whose kind rustix has no type for.
fn receive(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<Received> {
    // SAFETY: a socket address of zeros is one.
    let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    let mut control = [0u8; 256];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a message header of zeros is one; it points nowhere, for no bytes.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut sender).cast();
    message.msg_namelen = size_of_val(&sender) as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = control.len();
    // SAFETY: every pointer in the header is to a local of the length that stands beside it; the socket is open.
    let length = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let whole_name = message.msg_namelen as usize >= size_of_val(&sender);
    Ok(Received {
        length: length.min(buffer.len()),
        truncated: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
        from_kernel: whole_name && sender.nl_pid == 0,
        nsid: control.get(..message.msg_controllen).and_then(parse::control),
    })
}
