//! Reads a block: a chain of packets, each behind a `tpacket3_hdr` and a `sockaddr_ll` (linux/if_packet.h).
//!
//! What the kernel has taken out of a packet is put back in front of it: a VLAN tag that it keeps beside the bytes
//! (`TP_STATUS_VLAN_VALID`), and for cooked links the header that stands for the link's own. The room for it was asked
//! for with `PACKET_RESERVE`.

use libc::{sockaddr_ll, tpacket3_hdr};

use super::ledger::Ledger;
use super::link::Framing;
use super::mapping::Closed;
use super::program::SLL2;
use crate::{Direction, Packet, Timestamp};

/// Bytes in front of each packet that are free for the reader.
pub(super) const HEADROOM: u32 = 4;

const HEADER: usize = size_of::<tpacket3_hdr>();
const ADDRESS: usize = size_of::<sockaddr_ll>();
/// `ETH_P_8021Q`: the tag's protocol where the kernel tells none.
const DOT1Q: u16 = 0x8100;
const TAG: usize = 4;
const ADDRESSES: usize = 12;

/// Whose packets they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) interface: usize,
    pub(super) framing: Framing,
    /// Bytes kept of each packet at most; 0: all.
    pub(super) snaplen: u32,
}

/// How far a block has been read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    /// Where the next packet is, in bytes from the block's begin.
    offset: usize,
    /// Packets from there on.
    left: u32,
}

impl Cursor {
    /// Nothing has been read of a block that says this of itself.
    pub(super) fn new(closed: Closed) -> Cursor {
        Cursor { offset: closed.first as usize, left: closed.packets }
    }

    /// Whether there is more.
    pub(super) fn is_at_end(self) -> bool {
        self.left == 0
    }
}

/// Appends a block's next packets to `into`, at most so many, and enters them in the ledger. Whatever is in `into` then
/// is in order of time.
///
/// # Safety
/// `block` points to a block of `length` bytes that is the reader's (not the kernel's), whose description the cursor began
/// with, and which stays so as long as the packets are used. What lies before the cursor has been read, and nothing else.
pub(super) unsafe fn read(
    block: *mut u8,
    length: usize,
    cursor: &mut Cursor,
    most: u32,
    source: Source,
    ledger: &mut Ledger,
    into: &mut Vec<Packet<'static>>,
) {
    let mut sorted = true;
    let mut newest = into.last().map_or(0, |packet| packet.time.0);
    let count = cursor.left.min(most);
    into.reserve(count as usize);
    for _ in 0..count {
        // SAFETY: the caller's promise.
        let Some((packet, next)) = (unsafe { one(block, length, cursor.offset, source, ledger) }) else {
            ledger.unreadable += u64::from(cursor.left);
            cursor.left = 0;
            break;
        };
        sorted &= packet.time.0 >= newest;
        newest = packet.time.0;
        ledger.delivered += 1;
        ledger.bytes += packet.data.len() as u64;
        into.push(packet);
        cursor.offset += next;
        cursor.left -= 1;
    }
    // Two processors that put packets in at the same time take places and time stamps in no common order.
    if !sorted {
        into.sort_by_key(|packet| packet.time);
    }
}

/// The packet at an offset, and how far it is to the next; `None` if the numbers make no sense.
///
/// # Safety
/// As for [`read`].
unsafe fn one(
    block: *mut u8,
    length: usize,
    offset: usize,
    source: Source,
    ledger: &mut Ledger,
) -> Option<(Packet<'static>, usize)> {
    if !offset.is_multiple_of(align_of::<tpacket3_hdr>()) || offset.checked_add(HEADER + ADDRESS)? > length {
        return None;
    }
    // SAFETY: header and address lie within the block, aligned, and the kernel does not write there any more.
    let (start, header, address) = unsafe {
        let start = block.add(offset);
        (start, &*start.cast::<tpacket3_hdr>(), &*start.add(HEADER).cast::<sockaddr_ll>())
    };
    let mut first = usize::from(header.tp_mac);
    let mut kept = header.tp_snaplen as usize;
    let mut original = header.tp_len;
    let limit = if source.snaplen == 0 { u32::MAX } else { source.snaplen };
    let in_front = first.checked_sub(HEADER + ADDRESS)?;
    if offset + first + kept > length {
        return None;
    }
    let clamped = header.tp_snaplen < original.min(limit);
    let tagged = header.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    match source.framing {
        Framing::Ethernet if tagged && kept >= ADDRESSES && in_front >= TAG => {
            let known = header.tp_status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let protocol = if known { header.hv1.tp_vlan_tpid } else { DOT1Q };
            first -= TAG;
            // SAFETY: from `first` on there are the tag's four bytes of room, then the two addresses, all within the
            // block; nothing refers to these bytes yet.
            unsafe {
                let frame = start.add(first);
                std::ptr::copy(frame.add(TAG), frame, ADDRESSES);
                frame.add(ADDRESSES).cast::<[u8; 2]>().write_unaligned(protocol.to_be_bytes());
                let tci = header.hv1.tp_vlan_tci as u16;
                frame.add(ADDRESSES + 2).cast::<[u8; 2]>().write_unaligned(tci.to_be_bytes());
            }
            kept += TAG;
            original = original.saturating_add(TAG as u32);
        }
        Framing::Cooked if in_front >= SLL2 as usize => {
            first -= SLL2 as usize;
            // SAFETY: as above; the header's twenty bytes end where the packet begins and start behind the address.
            unsafe { start.add(first).cast::<[u8; SLL2 as usize]>().write_unaligned(sll2(address)) };
            kept += SLL2 as usize;
            original = original.saturating_add(SLL2);
        }
        _ => {}
    }
    kept = kept.min(limit as usize);
    ledger.clamped += u64::from(clamped);
    ledger.truncated += u64::from(!clamped && kept < original as usize);
    // SAFETY: these bytes lie within the block, and nobody writes them as long as the packets are used.
    let data: &'static [u8] = unsafe { std::slice::from_raw_parts(start.add(first), kept) };
    let outbound = address.sll_pkttype == libc::PACKET_OUTGOING;
    let packet = Packet {
        time: Timestamp(u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec)),
        interface: source.interface,
        direction: Some(if outbound { Direction::Outbound } else { Direction::Inbound }),
        original_length: original,
        data,
    };
    Some((packet, header.tp_next_offset as usize))
}

/// The header of <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>.
fn sll2(address: &sockaddr_ll) -> [u8; SLL2 as usize] {
    let mut header = [0; SLL2 as usize];
    // The kernel keeps the protocol in network byte order.
    header[0..2].copy_from_slice(&address.sll_protocol.to_ne_bytes());
    header[4..8].copy_from_slice(&address.sll_ifindex.to_be_bytes());
    header[8..10].copy_from_slice(&address.sll_hatype.to_be_bytes());
    header[10] = address.sll_pkttype;
    header[11] = address.sll_halen;
    header[12..20].copy_from_slice(&address.sll_addr);
    header
}

/// When the first packet of a block came, nanoseconds since the epoch; `None` if there is none.
///
/// # Safety
/// As for [`read`].
pub(super) unsafe fn first_time(block: *const u8, length: usize, closed: Closed) -> Option<u64> {
    let offset = closed.first as usize;
    if closed.packets == 0
        || !offset.is_multiple_of(align_of::<tpacket3_hdr>())
        || offset.checked_add(HEADER + ADDRESS)? > length
    {
        return None;
    }
    // SAFETY: the header lies within the block, and the kernel does not write there any more.
    let header = unsafe { &*block.add(offset).cast::<tpacket3_hdr>() };
    Some(u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec))
}
