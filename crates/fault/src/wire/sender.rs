//! The packet socket on the private end that sends (packet(7)).
//!
//! What is sent goes round the link's qdisc. Packets that can go on as one do so ([`super::run`]), by what virtio has for it
//! (`PACKET_VNET_HDR`): with one system call, and one way through the kernel for all of them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::c_void;
use snorkel_rtnl::IfIndex;

use super::run::runs;
use super::socket::{BUFFER, PACKET_VNET_HDR, VNET, bind, packet_socket, set};

/// How many packets are sent with one system call at most.
pub(super) const BATCH: usize = 256;
/// The header of a packet that goes as it is.
static PLAIN: [u8; VNET] = [0; VNET];

/// A socket that sends, and the lists that the kernel reads.
pub(super) struct Sender {
    socket: OwnedFd,
    parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

// SAFETY: the lists point to packets only within a call of `send`.
unsafe impl Send for Sender {}

impl Sender {
    /// Opens one on a link of the calling thread's namespace.
    pub(super) fn open(link: IfIndex) -> io::Result<Sender> {
        let socket = packet_socket()?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &1)?;
        set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, &1)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &BUFFER)?;
        // It hears nothing: of no protocol.
        bind(&socket, link, 0)?;
        Ok(Sender { socket, parts: Vec::with_capacity(2 * BATCH), messages: Vec::with_capacity(BATCH) })
    }

    /// Sends packets in order; gives how many of them the link refused.
    pub(super) fn send(&mut self, packets: &[&[u8]]) -> u64 {
        let runs = runs(packets);
        self.parts.clear();
        self.messages.clear();
        let mut rest = packets;
        let mut lengths = Vec::with_capacity(runs.len());
        for run in &runs {
            let (own, others) = rest.split_at(run.packets);
            rest = others;
            let begin = self.parts.len();
            match &run.head {
                None => {
                    self.parts.push(part(&PLAIN));
                    self.parts.extend(own.iter().map(|packet| part(packet)));
                }
                Some(head) => {
                    self.parts.push(part(head.bytes()));
                    self.parts.extend(own.iter().map(|packet| part(&packet[head.payload()..])));
                }
            }
            lengths.push(self.parts.len() - begin);
        }
        // From here on the list of parts stays where it is.
        let mut parts = self.parts.as_mut_slice();
        for length in lengths {
            let (own, others) = std::mem::take(&mut parts).split_at_mut(length);
            parts = others;
            // SAFETY: a message header is plain numbers and pointers; zeroes mean nothing there.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_iov = own.as_mut_ptr();
            message.msg_hdr.msg_iovlen = own.len() as _;
            self.messages.push(message);
        }
        let mut refused = 0;
        let mut sent = 0;
        while sent < self.messages.len() {
            let rest = &mut self.messages[sent..];
            // SAFETY: each message points to its parts, each part to a packet or a head that is borrowed for the length of
            // this call; the lists are as long as is said.
            let done = unsafe {
                libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0)
            };
            if done > 0 {
                sent += done as usize;
            } else if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                // The first of them cannot be sent: it is passed over, as a link loses it.
                refused += runs[sent].packets as u64;
                sent += 1;
            }
        }
        refused
    }
}

/// Bytes that the kernel only reads.
fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast::<c_void>().cast_mut(), iov_len: bytes.len() }
}
