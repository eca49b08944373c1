//! The few system calls that rustix cannot express; each without effect on anything but the socket it is given.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;

/// `struct tpacket_req3` of linux/if_packet.h: sizes in bytes, the time-out in milliseconds.
#[repr(C)]
struct RingRequest {
    block_size: u32,
    block_count: u32,
    frame_size: u32,
    frame_count: u32,
    retire_timeout: u32,
    private_size: u32,
    feature_request: u32,
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn set<T>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> Result<(), Errno> {
    // SAFETY: the kernel reads at most `size_of::<T>()` bytes from `value`, which is a live reference to that many.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Gives a packet socket a receive ring of version 3 with one block of 256 KiB (packet(7)).
pub(super) fn packet_ring(socket: &impl AsFd) -> Result<(), Errno> {
    // tpacket_versions: TPACKET_V1, V2, V3 from zero.
    const TPACKET_V3: libc::c_int = 2;
    set(socket, libc::SOL_PACKET, libc::PACKET_VERSION, &TPACKET_V3)?;
    // A block is whole pages, also where a page is 64 KiB.
    const BLOCK_SIZE: u32 = 256 << 10;
    const FRAME_SIZE: u32 = 2048;
    let request = RingRequest {
        block_size: BLOCK_SIZE,
        block_count: 1,
        frame_size: FRAME_SIZE,
        frame_count: BLOCK_SIZE / FRAME_SIZE,
        retire_timeout: 60,
        private_size: 0,
        feature_request: 0,
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
}

/// The version of Landlock's interface that the kernel has (landlock_create_ruleset(2)); makes no rule set.
pub(super) fn landlock_version() -> Result<u32, Errno> {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the pointer must be null and the size zero; no memory is touched.
    let got = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(got).map_err(|_| last_errno())
}

/// Whether the kernel has seccomp filters: it looks at the filter, which is not there, only if it has (seccomp(2)).
pub(super) fn seccomp_filters() -> bool {
    // SAFETY: the null filter cannot be read, so the call fails with EFAULT or before it; it has no other effect.
    let done = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::null::<libc::c_void>(), 0, 0)
    };
    done != 0 && last_errno() == Errno::FAULT
}
