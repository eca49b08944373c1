//! The packet socket on the private end that receives, with a ring (packet(7)), and what it has in common with the one that
//! sends ([`super::sender`]).
//!
//! The ring is of version 2: the kernel hands every packet over at once, with the time at which it came, where version 3
//! waits for a block to fill or its time to be up, which is counted in milliseconds. A packet that is too large for a frame of
//! the ring is left whole in the socket's queue beside it (`PACKET_COPY_THRESH`).
//! See the kernel's Documentation/networking/packet_mmap.rst and net/packet/af_packet.c (`tpacket_rcv`).

use std::io::{self, IoSliceMut};
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, sockaddr_ll, tpacket2_hdr};
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
use snorkel_rtnl::IfIndex;

use super::checksum::{checksum, crc32c};

/// `ETH_P_ALL` of linux/if_ether.h, in network byte order.
const EVERYTHING: u16 = (libc::ETH_P_ALL as u16).to_be();
/// `ETH_P_8021Q`: the tag's protocol where the kernel tells none.
const DOT1Q: u16 = 0x8100;
/// `PACKET_COPY_THRESH` and `TP_STATUS_COPY` of linux/if_packet.h.
const PACKET_COPY_THRESH: c_int = 7;
const TP_STATUS_COPY: u32 = 1 << 1;
/// `PACKET_VNET_HDR` of linux/if_packet.h.
pub(super) const PACKET_VNET_HDR: c_int = 15;
/// What a packet socket with it has before each packet: `struct virtio_net_hdr` of linux/virtio_net.h, in the machine's own
/// order of bytes.
pub(super) const VNET: usize = 10;
pub(super) const VNET_NEEDS_CSUM: u8 = 1;
/// The length of what stands before a packet at least: a header, and the link's address behind it.
const HEADER: usize = size_of::<tpacket2_hdr>() + size_of::<sockaddr_ll>();
/// A VLAN tag, and the two addresses that stand before it.
const TAG: usize = 4;
const ADDRESSES: usize = 12;
/// The size of a frame: an Ethernet packet of ordinary size with all that stands before it.
const FRAME: usize = 2048;
/// The size of a block; frames lie in a row through all of them.
const BLOCK: usize = 64 * 1024;
/// How many packets the ring holds: at a gigabit per second, what comes in 50 ms.
const FRAMES: usize = 4096;
/// For packets that are too large for a frame, and for what is being sent.
pub(super) const BUFFER: c_int = 8 << 20;
/// The largest packet: the largest MTU, an Ethernet header with two tags.
pub(super) const LARGEST: usize = 65535 + 22;

/// A packet that waits in the ring.
pub(super) struct Frame<'a> {
    socket: BorrowedFd<'a>,
    bytes: &'a mut [u8],
    /// When it came, nanoseconds since the epoch.
    pub(super) time: u64,
    status: u32,
    /// The tag that the kernel took out of it, where it is not put back.
    tag: Option<[u8; TAG]>,
    cut: bool,
}

impl<'a> Frame<'a> {
    /// Its bytes as they lie in the ring; `None` if there they are not all.
    pub(super) fn into_bytes(self) -> Option<&'a mut [u8]> {
        (!self.cut).then_some(self.bytes)
    }

    /// The whole of a packet that was too large for its frame; `None` if it fitted, or is lost.
    pub(super) fn take_large(&self) -> Option<Vec<u8>> {
        if self.status & TP_STATUS_COPY == 0 {
            return None;
        }
        let mut bytes = vec![0; LARGEST];
        let mut head = [0; VNET];
        let mut parts = [IoSliceMut::new(&mut head), IoSliceMut::new(&mut bytes)];
        let mut control = RecvAncillaryBuffer::default();
        let length = recvmsg(self.socket, &mut parts, &mut control, RecvFlags::DONTWAIT).ok()?.bytes;
        let length = length.checked_sub(VNET)?;
        bytes.truncate(length);
        sum_up(&head, &mut bytes);
        if let Some(tag) = self.tag
            && length >= ADDRESSES
        {
            bytes.splice(ADDRESSES..ADDRESSES, tag);
        }
        Some(bytes)
    }

    /// Whether packets have been dropped since that was last asked.
    pub(super) fn is_losing(&self) -> bool {
        self.status & libc::TP_STATUS_LOSING != 0
    }
}

/// A receive ring.
pub(super) struct Ring {
    socket: OwnedFd,
    base: NonNull<u8>,
    next: usize,
}

// SAFETY: the mapping belongs to the value wherever it is, and only its one user touches it.
unsafe impl Send for Ring {}

impl Ring {
    /// Opens a ring on a link of the calling thread's namespace.
    pub(super) fn open(link: IfIndex) -> io::Result<Ring> {
        let socket = packet_socket()?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &(libc::tpacket_versions::TPACKET_V2 as c_int))?;
        set(&socket, libc::SOL_PACKET, PACKET_COPY_THRESH, &1)?;
        // Tells which packets have no check sum yet.
        set(&socket, libc::SOL_PACKET, PACKET_VNET_HDR, &1)?;
        // The other socket's packets are this link's own.
        set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &BUFFER)?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as libc::c_uint,
            tp_block_nr: (FRAMES * FRAME / BLOCK) as libc::c_uint,
            tp_frame_size: FRAME as libc::c_uint,
            tp_frame_nr: FRAMES as libc::c_uint,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice takes no memory from anyone.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                FRAMES * FRAME,
                protection,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        let ring = Ring { socket, base, next: 0 };
        bind(&ring.socket, link, EVERYTHING)?;
        Ok(ring)
    }

    fn header(&self, ahead: usize) -> NonNull<tpacket2_hdr> {
        // SAFETY: the offset is within the mapping, which begins at a page.
        unsafe { self.base.add((self.next + ahead) % FRAMES * FRAME) }.cast()
    }

    fn status(&self, ahead: usize) -> &AtomicU32 {
        let header = self.header(ahead);
        // SAFETY: the status is an aligned word of the mapping, which the kernel reads and writes as a whole.
        unsafe { AtomicU32::from_ptr(&raw mut (*header.as_ptr()).tp_status) }
    }

    /// The packets that have come and are not released, from the first, at most so many.
    pub(super) fn arrived(&mut self, most: usize) -> impl Iterator<Item = Frame<'_>> {
        // Each place is looked at once, so no two frames share bytes.
        let ring = &*self;
        (0..most.min(FRAMES)).map_while(move |ahead| ring.peek(ahead))
    }

    /// The packet in a place, if one has come. Each place is to be looked at once before it is released.
    fn peek(&self, ahead: usize) -> Option<Frame<'_>> {
        let status = self.status(ahead).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the frame is the reader's now, and its header lies at its begin; the kernel does not write there any more.
        let header = unsafe { self.header(ahead).as_ref() };
        let offset = usize::from(header.tp_mac).clamp(HEADER + VNET, FRAME);
        let length = (header.tp_snaplen as usize).min(FRAME - offset);
        let cut = length < header.tp_len as usize;
        let tag = (status & libc::TP_STATUS_VLAN_VALID != 0).then(|| {
            let known = status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
            let [p, q] = if known { header.tp_vlan_tpid } else { DOT1Q }.to_be_bytes();
            let [t, u] = header.tp_vlan_tci.to_be_bytes();
            [p, q, t, u]
        });
        let time = u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec);
        let back = tag.filter(|_| !cut && length >= ADDRESSES);
        // SAFETY: offset and length are within the frame, behind its header, as made sure of above; the caller looks at each
        // frame once, and it is not released as long as the value lives (`Ring::release` takes the ring exclusively).
        let bytes = unsafe {
            let begin = self.header(ahead).cast::<u8>().add(offset - VNET);
            std::slice::from_raw_parts_mut(begin.as_ptr(), VNET + length)
        };
        let (head, packet) = bytes.split_at_mut(VNET);
        if !cut {
            sum_up(head, packet);
        }
        // What stood before the packet has been read, and there is room for a tag.
        let begin = match back {
            None => VNET,
            Some(tag) => {
                bytes.copy_within(VNET..VNET + ADDRESSES, VNET - TAG);
                bytes[VNET - TAG + ADDRESSES..VNET + ADDRESSES].copy_from_slice(&tag);
                VNET - TAG
            }
        };
        let bytes = &mut bytes[begin..];
        Some(Frame { socket: self.socket.as_fd(), bytes, time, status, tag, cut })
    }

    /// Gives the first frames back to the kernel.
    pub(super) fn release(&mut self, count: usize) {
        for ahead in 0..count {
            self.status(ahead).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
        self.next = (self.next + count) % FRAMES;
    }

    /// How many packets found the ring full, since that was last asked (`PACKET_STATISTICS` clears it).
    pub(super) fn take_dropped(&mut self) -> u64 {
        let mut read = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes to the statistics, which are that long; the socket is open.
        let got = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut read).cast(),
                &raw mut length,
            )
        };
        if got == 0 { u64::from(read.tp_drops) } else { 0 }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no frame outlives it.
        unsafe { libc::munmap(self.base.as_ptr().cast(), FRAMES * FRAME) };
    }
}

/// Where SCTP has its check sum; nobody else has it there.
const SCTP_SUM: usize = 8;

/// Gives a packet the check sum that its sender has left to the link, if it has: what stands in its place is the pseudo-header's
/// (Documentation/networking/checksum-offloads.rst).
fn sum_up(head: &[u8], packet: &mut [u8]) {
    if head[0] & VNET_NEEDS_CSUM == 0 {
        return;
    }
    let number = |at: usize| usize::from(u16::from_ne_bytes([head[at], head[at + 1]]));
    let (begin, place) = (number(6), number(6) + number(8));
    let Some(summed) = packet.get(begin..) else { return };
    let (sum, length) = if number(8) == SCTP_SUM {
        (crc32c(summed), 4)
    } else {
        let [a, b] = match checksum(&[summed]) {
            // Zero says that there is none (RFC 768).
            [0, 0] => [0xff; 2],
            sum => sum,
        };
        ([a, b, 0, 0], 2)
    };
    if let Some(there) = packet.get_mut(place..place + length) {
        there.copy_from_slice(&sum[..length]);
    }
}

/// A packet socket of the calling thread's network namespace; it hears nothing yet.
pub(super) fn packet_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket takes numbers only.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn bind(socket: &OwnedFd, link: IfIndex, protocol: u16) -> io::Result<()> {
    // SAFETY: an address is plain numbers; the fields that matter are set below.
    let mut address: sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = protocol;
    // An index is positive and fits.
    address.sll_ifindex = link.get() as c_int;
    let length = size_of::<sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is as long as is said; the socket is open.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })
}

pub(super) fn set<T>(socket: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads at most `length` bytes of the value, which is that long.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const *value).cast(), length) })
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
