//! As much netlink as trying needs: one request, one answer (netlink(7)).
//!
//! Only made-up requests are sent here, in a namespace of the trial's own. What the kernel answers is read with every
//! length checked.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, bind, recv,
    sendmsg, socket_with,
};
use snorkel_netns::Netns;

use super::trial::{During, Trouble, trouble};

/// Flags of a request (linux/netlink.h).
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const CREATE: u16 = 0x400;
pub(super) const EXCLUSIVE: u16 = 0x200;

/// All messages of one socket carry this number: a socket is used for one exchange after the other.
const SEQUENCE: u32 = 1;
const HEADER: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A message that is being written.
#[derive(Debug)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Begins with the fixed part of its kind (`struct ifinfomsg` and so on).
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes[8..12].copy_from_slice(&SEQUENCE.to_ne_bytes());
        bytes.extend(fixed);
        Message(bytes)
    }

    /// Appends an attribute.
    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        append(&mut self.0, kind, value);
        self
    }

    fn finished(mut self) -> Vec<u8> {
        // Nothing here is near 64 KiB.
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// Attributes within an attribute.
pub(super) fn nested(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, value) in attributes {
        append(&mut bytes, *kind, value);
    }
    bytes
}

fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend((value.len() as u16 + 4).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A netlink socket inside a namespace.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Opens one for `protocol` in `netns`; `None` is rtnetlink, whose number is 0.
    pub(super) fn open_in(netns: &Netns, protocol: Option<Protocol>) -> Result<Socket, Trouble> {
        netns.run(|| Socket::open(protocol)).map_err(|e| trouble(&e))?
    }

    /// Opens one in the calling thread's namespace.
    pub(super) fn open(protocol: Option<Protocol>) -> Result<Socket, Trouble> {
        Socket::bound(protocol).during("open a netlink socket")
    }

    fn bound(protocol: Option<Protocol>) -> Result<Socket, Errno> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
        // The kernel answers before send returns. The time-out is only against what nobody thought of.
        set_socket_timeout(&fd, Timeout::Recv, Some(Duration::from_secs(5)))?;
        bind(&fd, &SocketAddrNetlink::new(0, 0))?;
        Ok(Socket(fd))
    }

    /// Sends messages in one datagram, and returns the bodies of what came back before the acknowledgement.
    pub(super) fn ask(&self, messages: Vec<Message>) -> Result<Vec<Vec<u8>>, Errno> {
        let bytes: Vec<u8> = messages.into_iter().flat_map(Message::finished).collect();
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut SendAncillaryBuffer::default(), SendFlags::empty())?;
        let mut bodies = Vec::new();
        let mut buffer = [MaybeUninit::uninit(); 32 << 10];
        loop {
            let ((got, _), _) = recv(&self.0, &mut buffer, RecvFlags::empty())?;
            if read(got, &mut bodies)? {
                return Ok(bodies);
            }
        }
    }
}

/// Takes one datagram apart; `true` when the acknowledgement was in it.
fn read(mut datagram: &[u8], bodies: &mut Vec<Vec<u8>>) -> Result<bool, Errno> {
    while let Some(header) = datagram.first_chunk::<HEADER>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let body = datagram.get(HEADER..length).ok_or(Errno::BADMSG)?;
        match kind {
            NLMSG_ERROR | NLMSG_DONE => {
                let code = body.first_chunk::<4>().map_or(0, |code| i32::from_ne_bytes(*code));
                return match code.checked_neg() {
                    Some(0) => Ok(true),
                    // The range of errors (linux/err.h), which is also what `Errno` can hold.
                    Some(code @ 1..4096) => Err(Errno::from_raw_os_error(code)),
                    _ => Err(Errno::BADMSG),
                };
            }
            _ => bodies.push(body.to_vec()),
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The value of the first attribute of this kind behind the fixed part of a body.
pub(super) fn attribute(body: &[u8], fixed: usize, kind: u16) -> Option<&[u8]> {
    let mut rest = body.get(fixed..)?;
    while let Some(header) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = rest.get(4..length)?;
        // The two highest bits are flags: nested, network byte order.
        if u16::from_ne_bytes([header[2], header[3]]) & 0x3fff == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_attribute_is_found_behind_one_of_odd_length() {
        let body = nested(&[(1, b"odd"), (46, &7_u32.to_ne_bytes())]);
        assert_eq!(attribute(&body, 0, 46), Some(7_u32.to_ne_bytes().as_slice()));
        assert_eq!(attribute(&body, 0, 2), None);
    }

    #[test]
    fn an_error_is_an_error_and_zero_is_the_acknowledgement() {
        let mut bodies = Vec::new();
        let say = |code: i32| Message::new(NLMSG_ERROR, 0, &code.to_ne_bytes()).finished();
        assert_eq!(read(&say(-libc::ENOENT), &mut bodies), Err(Errno::NOENT));
        assert_eq!(read(&say(0), &mut bodies), Ok(true));
        let mut both = Message::new(16, 0, b"body").finished();
        assert_eq!(read(&both, &mut bodies), Ok(false));
        both.extend(say(0));
        assert_eq!(read(&both, &mut bodies), Ok(true));
        assert_eq!(bodies, [b"body", b"body"]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_spin(bytes in proptest::collection::vec(any::<u8>(), 0..200), short: bool) {
            let mut bytes = bytes;
            if short && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&20_u32.to_ne_bytes());
            }
            let _ = read(&bytes, &mut Vec::new());
            let _ = attribute(&bytes, 0, 46);
        }
    }
}
