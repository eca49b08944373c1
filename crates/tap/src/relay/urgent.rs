//! TCP's urgent byte (RFC 6093; tcp(7)): taken out of line, so that it can be sent on as what it is.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// The urgent byte, if there is one and it has come.
pub(super) fn take(from: BorrowedFd<'_>) -> io::Result<Option<u8>> {
    let mut byte = [0];
    match recv(from, &mut byte, RecvFlags::OOB | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Ok(None),
        Ok(_) => Ok(Some(byte[0])),
        // None, or it was taken already.
        Err(Errno::INVAL | Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether all bytes before the urgent one have been read, and none after it (sockatmark(3)).
pub(super) fn is_at_mark(from: BorrowedFd<'_>) -> io::Result<bool> {
    /// `SIOCATMARK` of asm/sockios.h.
    const SIOCATMARK: libc::Ioctl = 0x8905;
    let mut at: libc::c_int = 0;
    // SAFETY: the kernel writes one int to the exclusive reference; the descriptor is open.
    if unsafe { libc::ioctl(from.as_raw_fd(), SIOCATMARK, &raw mut at) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(at != 0)
}
