//! The ring's memory, shared with the kernel.
//!
//! A block's status word says whose it is (the kernel's Documentation/networking/packet_mmap.rst): the kernel hands one
//! over by setting `TP_STATUS_USER`, the reader hands it back by clearing the word. The pages are the kernel's own,
//! present and zeroed since the ring was made: nothing is left to be touched, locked or populated.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use libc::{tpacket_block_desc, tpacket_hdr_v1};

use super::budget::Plan;

/// A mapped ring.
pub(super) struct Mapping {
    base: NonNull<u8>,
    plan: Plan,
}

// SAFETY: the memory belongs to the value wherever it is; only `&mut Ring` reads packets from it.
unsafe impl Send for Mapping {}

/// What a block that has been handed over says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed {
    /// Packets in it.
    pub(super) packets: u32,
    /// Where the first is, in bytes from the block's begin.
    pub(super) first: u32,
    /// When the last came, nanoseconds since the epoch.
    pub(super) last: u64,
    /// It was handed over because it was full, not because its time was up.
    pub(super) full: bool,
    /// Packets have been dropped since the statistics were last read.
    pub(super) losing: bool,
}

impl Mapping {
    /// Maps the ring that the socket has.
    pub(super) fn new(socket: BorrowedFd<'_>, plan: Plan) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice takes no memory from anyone.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                plan.bytes(),
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
        Ok(Mapping { base, plan })
    }

    /// How it is cut.
    pub(super) fn plan(&self) -> Plan {
        self.plan
    }

    /// The begin of a block; counted round and round.
    pub(super) fn block(&self, number: usize) -> *mut u8 {
        let offset = (number % self.plan.count) * self.plan.block;
        // SAFETY: the offset is less than the mapping is long.
        unsafe { self.base.as_ptr().add(offset) }
    }

    fn header(&self, number: usize) -> *mut tpacket_hdr_v1 {
        let block: *mut tpacket_block_desc = self.block(number).cast();
        // SAFETY: every block begins with its description, aligned to pages; this makes a pointer and reads nothing.
        unsafe { &raw mut (*block).hdr.bh1 }
    }

    fn word(&self, field: *mut u32) -> &AtomicU32 {
        // SAFETY: the field is an aligned word of the mapping, which the kernel reads and writes as whole words.
        unsafe { AtomicU32::from_ptr(field) }
    }

    /// What a block says, if it has been handed over.
    pub(super) fn closed(&self, number: usize) -> Option<Closed> {
        let header = self.header(number);
        // SAFETY: a pointer to a field of the block's description, not read here.
        let status = self.word(unsafe { &raw mut (*header).block_status }).load(Ordering::Acquire);
        if status & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the block is the reader's now; the kernel has written these before the status.
        let (packets, first, last) =
            unsafe { ((*header).num_pkts, (*header).offset_to_first_pkt, (*header).ts_last_pkt) };
        // The field has two names; version 3 keeps nanoseconds in it.
        let last = u64::from(last.ts_sec) * 1_000_000_000 + u64::from(last.ts_usec);
        let full = status & libc::TP_STATUS_BLK_TMO == 0;
        Some(Closed { packets, first, last, full, losing: status & libc::TP_STATUS_LOSING != 0 })
    }

    /// Whether no packet has been put into a block of the kernel's yet. The kernel may put one in at any time; what it
    /// puts in after this look has a later time stamp than a clock read before it.
    pub(super) fn still_empty(&self, number: usize) -> bool {
        let header = self.header(number);
        // SAFETY: pointers to words of the block's description, read as atomics below.
        let (status, packets) = unsafe { (&raw mut (*header).block_status, &raw mut (*header).num_pkts) };
        // The number first: a block that was handed over meanwhile is seen to be so.
        let packets = self.word(packets).load(Ordering::Acquire);
        let status = self.word(status).load(Ordering::Acquire);
        packets == 0 && status & libc::TP_STATUS_USER == 0
    }

    /// Gives a block back.
    pub(super) fn release(&self, number: usize) {
        let header = self.header(number);
        // SAFETY: as above.
        let (status, packets) = unsafe { (&raw mut (*header).block_status, &raw mut (*header).num_pkts) };
        // Until the kernel opens it again the block must not look as if there were something in it.
        self.word(packets).store(0, Ordering::Relaxed);
        self.word(status).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        // The kernel must see it before the reader looks at other blocks, and sleeps if there is nothing in them.
        fence(Ordering::SeqCst);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing that was lent from it outlives the ring.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.plan.bytes()) };
    }
}
