//! The listening abstract sockets of this network namespace, and a conversation with one of them under a deadline.
//!
//! Anyone can bind such a name, so who listens is asked of the kernel (`SO_PEERCRED`, unix(7)) before a word of his is
//! believed.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use snorkel_netns::{Peer, Pid, unix};

use crate::fault::{Fault, Result};

/// The abstract names on which somebody listens, without the `@`, in the order of the file.
pub(crate) fn listening(file: &Path) -> Result<Vec<Vec<u8>>> {
    let text = fs::read(file).map_err(|source| Fault::Read { path: file.to_owned(), source })?;
    Ok(unix::listening(&text))
}

/// Whether somebody still listens on a name: who broke a conversation off because he ended does not, for the kernel
/// takes a socket's name away before it resets what waits on it (`unix_release_sock` of net/unix/af_unix.c).
pub(crate) fn still_listens(file: &Path, name: &[u8]) -> bool {
    listening(file).is_ok_and(|names| names.iter().any(|known| known == name))
}

/// A connection that ends at its deadline, whatever the other side does.
pub(crate) struct Conversation {
    stream: UnixStream,
    deadline: Instant,
    /// Process and user of whoever listens, as the kernel knows them.
    pub(crate) pid: Option<Pid>,
    pub(crate) uid: u32,
}

/// Connects. A listener whose queue is full is waited for until the deadline, unless the flags say not to wait.
pub(crate) fn connect(
    address: &SocketAddrUnix,
    deadline: Instant,
    flags: SocketFlags,
) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        set_socket_timeout(&socket, Timeout::Send, Some(left(deadline)?))?;
        match rustix::net::connect(&socket, address) {
            Ok(()) => return Ok(UnixStream::from(socket)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Conversation {
    /// Connects to an abstract name. A listener whose queue is full is waited for until the deadline.
    pub(crate) fn open(name: &[u8], deadline: Instant) -> io::Result<Conversation> {
        Conversation::open_with(name, deadline, SocketFlags::CLOEXEC)
    }

    /// As [`Conversation::open`], but a listener whose queue is full is an error at once ([`is_timeout`]).
    pub(crate) fn open_at_once(name: &[u8], deadline: Instant) -> io::Result<Conversation> {
        let conversation =
            Conversation::open_with(name, deadline, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        conversation.stream.set_nonblocking(false)?;
        Ok(conversation)
    }

    fn open_with(name: &[u8], deadline: Instant, flags: SocketFlags) -> io::Result<Conversation> {
        let address = SocketAddrUnix::new_abstract_name(name)?;
        let stream = connect(&address, deadline, flags)?;
        let Peer { pid, uid } = Peer::of(&stream)?;
        Ok(Conversation { stream, deadline, pid, uid })
    }

    pub(crate) fn stream(&self) -> io::Result<&UnixStream> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        Ok(&self.stream)
    }

    /// Reads exactly so many bytes.
    pub(crate) fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.stream()?.read(&mut buffer[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads a line, without its end; `None` if it is longer than `limit`.
    pub(crate) fn read_line(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let mut chunk = [0; 8192];
        loop {
            match self.stream()?.read(&mut chunk) {
                Ok(0) => {
                    return if line.is_empty() {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    } else {
                        Ok(Some(line))
                    };
                }
                Ok(n) => {
                    let end = chunk[..n].iter().position(|b| *b == b'\n');
                    line.extend_from_slice(&chunk[..end.unwrap_or(n)]);
                    if line.len() > limit {
                        return Ok(None);
                    }
                    if end.is_some() {
                        return Ok(Some(line));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// How long it is until then; an error as of a time-out if it is over.
pub(crate) fn left(deadline: Instant) -> io::Result<Duration> {
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
        left => Ok(left.max(Duration::from_micros(1))),
    }
}

/// Whether an error is the deadline's: a socket's own time-out comes as EAGAIN.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}
