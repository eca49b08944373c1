//! Small packets as fast as one processor sends them.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

const BATCH: usize = 64;

/// Sends frames of 64 bytes out of a link of this network for so long; says how many.
pub(crate) fn flood(link: &str, lasting: Duration) -> io::Result<u64> {
    let socket = socket(link)?;
    let length = 64;
    let mut frame = vec![0u8; length.max(14)];
    frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    let mut slice = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: a message is plain numbers and pointers; only the bytes to send are set, which outlive the loop.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
    for message in &mut messages {
        message.msg_hdr.msg_iov = &raw mut slice;
        message.msg_hdr.msg_iovlen = 1;
    }
    let end = Instant::now() + lasting;
    let mut sent = 0u64;
    while Instant::now() < end {
        // SAFETY: the kernel reads the messages and the bytes they point to, and writes the lengths into them.
        let count = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), BATCH as u32, 0) };
        match u64::try_from(count) {
            Ok(count) => sent += count,
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
    Ok(sent)
}

/// A packet socket that is bound to a link of the calling thread's namespace.
fn socket(link: &str) -> io::Result<OwnedFd> {
    let name = std::ffi::CString::new(link)?;
    // SAFETY: plain calls with numbers, a string that ends with zero, and an address that is as long as is said.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        match libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32) {
            0 => Ok(socket),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
