//! A queue of packets that wait until this process has decided on them (linux/netfilter/nfnetlink_queue.h).
//!
//! The kernel drops what waits when the socket is gone. A packet that finds no room in the queue goes on as if it had
//! been accepted.

use std::os::fd::{AsFd, BorrowedFd};

use snorkel_netns::Netns;

use crate::change::CHANGE;
use crate::netlink::Netlink;
use crate::nftables::{NFGENMSG, message};
use crate::wire::{Malformed, Request, attributes, messages, take};
use crate::{Error, Result};

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_QUEUE as u16;
const PACKET: u16 = SUBSYSTEM << 8 | libc::NFQNL_MSG_PACKET as u16;
const VERDICT: u16 = SUBSYSTEM << 8 | libc::NFQNL_MSG_VERDICT as u16;
const CONFIG: u16 = SUBSYSTEM << 8 | libc::NFQNL_MSG_CONFIG as u16;
const NFQA_CFG_F_FAIL_OPEN: u32 = libc::NFQA_CFG_F_FAIL_OPEN as u32;
/// As much of a packet as is told: its headers, with all options of both.
const TOLD: u32 = 256;
/// How many numbers of queues are tried.
const TRIES: u16 = 64;

/// A packet that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its number in this queue.
    pub id: u32,
    /// The packet from its network header on, or the beginning of it.
    pub bytes: Vec<u8>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It goes on.
    Accept,
    /// It goes on with this mark (socket(7), SO_MARK).
    Mark(u32),
    /// It is dropped.
    Drop,
}

/// A queue. It belongs to the namespace that it was made in, and goes with the value.
#[derive(Debug)]
pub struct Queue {
    netlink: Netlink,
    number: u16,
}

impl Queue {
    /// Makes a queue inside a namespace, for use from anywhere, under a number that nobody else has.
    pub fn open_in(netns: &Netns) -> Result<Queue> {
        let what = "open a queue for packets";
        let open = || Netlink::open(what, Some(rustix::net::netlink::NETFILTER));
        let mut netlink = netns.run(open)??;
        // Low numbers are what others choose.
        let first = 0x8000 | (std::process::id() as u16).wrapping_mul(97) & 0x7fff;
        for step in 0..TRIES {
            let number = first.wrapping_add(step) | 0x8000;
            let mut bind = config(number);
            // struct nfqnl_msg_config_cmd: command, padding, a family that is no longer looked at.
            bind.put(libc::NFQA_CFG_CMD as u16, &[libc::NFQNL_CFG_CMD_BIND as u8, 0, 0, 0]);
            match netlink.change(what, &bind) {
                // EBUSY: another process has that one; EPERM is said of it by older kernels, too.
                Err(Error::Os { source, .. })
                    if matches!(source.raw_os_error(), Some(libc::EBUSY | libc::EPERM))
                        && step + 1 < TRIES => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let mut set = config(number);
                    // struct nfqnl_msg_config_params: how much, and what.
                    let params = [&TOLD.to_be_bytes()[..], &[libc::NFQNL_COPY_PACKET as u8]].concat();
                    set.put(libc::NFQA_CFG_PARAMS as u16, &params);
                    set.put(libc::NFQA_CFG_MASK as u16, &NFQA_CFG_F_FAIL_OPEN.to_be_bytes());
                    set.put(libc::NFQA_CFG_FLAGS as u16, &NFQA_CFG_F_FAIL_OPEN.to_be_bytes());
                    netlink.change(what, &set)?;
                    // What is lost when nobody reads for long is sent again by whoever sent it.
                    netlink.set_option(libc::NETLINK_NO_ENOBUFS, "NETLINK_NO_ENOBUFS");
                    return Ok(Queue { netlink, number });
                }
            }
        }
        Err(Error::Invalid { what: what.into(), why: "all numbers that were tried are taken" })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The packets that have come, none if there are none now. Never waits: poll [`Queue::as_fd`] for that, after this
    /// has given none.
    pub fn take(&mut self) -> Result<Vec<Held>> {
        let what = "read a queue of packets";
        let Some(datagram) = self.netlink.receive_now(what)? else { return Ok(Vec::new()) };
        let malformed = |Malformed(why)| Error::Malformed { what: what.into(), why };
        let mut all = Vec::new();
        for message in messages(datagram) {
            let message = message.map_err(malformed)?;
            // The rest is what the kernel thinks of verdicts on packets that are gone.
            if message.kind == PACKET {
                all.extend(held(message.payload).map_err(malformed)?);
            }
        }
        Ok(all)
    }

    /// Decides.
    pub fn decide(&mut self, id: u32, ruling: Ruling) -> Result<()> {
        let verdict = match ruling {
            Ruling::Accept | Ruling::Mark(_) => libc::NF_ACCEPT as u32,
            Ruling::Drop => libc::NF_DROP as u32,
        };
        let mut request = message(VERDICT, libc::NLM_F_REQUEST as u16, 0, self.number);
        request.put(libc::NFQA_VERDICT_HDR as u16, &[verdict.to_be_bytes(), id.to_be_bytes()].concat());
        if let Ruling::Mark(mark) = ruling {
            request.put(libc::NFQA_MARK as u16, &mark.to_be_bytes());
        }
        self.netlink.tell("decide on a packet in a queue", &request)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }
}

fn config(number: u16) -> Request {
    message(CONFIG, CHANGE, 0, number)
}

/// A packet, by the kernel's message about it.
pub(crate) fn held(payload: &[u8]) -> Result<Option<Held>, Malformed> {
    let (_, rest) = take::<NFGENMSG>(payload, "a packet ends within its header")?;
    let (mut id, mut bytes) = (None, None);
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match libc::c_int::from(attribute.kind) {
            libc::NFQA_PACKET_HDR => {
                let (number, _) = take::<4>(attribute.payload, "a packet's number is cut off")?;
                id = Some(u32::from_be_bytes(number));
            }
            libc::NFQA_PAYLOAD => bytes = Some(attribute.payload.to_vec()),
            _ => {}
        }
    }
    // One without a number cannot be decided on.
    Ok(id.map(|id| Held { id, bytes: bytes.unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_packet_or_one(bytes: Vec<u8>) {
            let _ = held(&bytes);
        }
    }
}
