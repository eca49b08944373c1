//! Options of sockets for which rustix has no names.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Marks what the socket sends (socket(7), SO_MARK).
pub(super) fn set_mark(socket: impl AsFd, mark: u32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_MARK, mark.cast_signed())
}

/// Lets the port of a socket that is bound to an address be chosen when it is connected (ip(7),
/// IP_BIND_ADDRESS_NO_PORT; it goes for IPv6 as well).
pub(super) fn choose_port_late(socket: impl AsFd) -> io::Result<()> {
    set(socket, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

fn set(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes of `value` as it has; the socket is open.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
