//! A word to whoever waits for it, by processes that know nothing of each other: an empty datagram to every abstract
//! socket (unix(7)) of the network namespace whose name begins with a prefix that both know.
//!
//! It says that there is something to look at, and nothing else. Anybody may send one, and anybody may wait for them: the
//! names stand in `/proc/net/unix` for all to see. So whoever is notified must not believe more than that a look may be
//! worth it, nor look each time if that comes often; and whoever notifies is never kept waiting. The names go with their
//! processes.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

use crate::unix;

/// So many names by chance are tried. The first is free, unless somebody has taken more of them than there is memory.
const TRIES: usize = 4;

/// Waits for notifications. Readable when one came.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Waits under a prefix from now on, in the network namespace of the calling thread.
    pub fn bind(prefix: &str) -> io::Result<Listener> {
        let socket = datagram_socket()?;
        for _ in 0..TRIES {
            let chance = RandomState::new().build_hasher().finish();
            let address = SocketAddrUnix::new_abstract_name(format!("{prefix}{chance:016x}").as_bytes())?;
            match rustix::net::bind(&socket, &address) {
                Ok(()) => return Ok(Listener(socket)),
                Err(Errno::ADDRINUSE) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Errno::ADDRINUSE.into())
    }

    /// Takes one notification; [`io::ErrorKind::WouldBlock`] if there is none yet.
    pub fn take(&self) -> io::Result<()> {
        // Without room for descriptors those that came along are closed by the kernel.
        rustix::net::recv(&self.0, &mut [0; 1], RecvFlags::DONTWAIT)?;
        Ok(())
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Notifies all who wait under a prefix in the network namespace of the calling thread. Waits for nobody: one whose queue
/// is full has a notification to take anyway.
pub fn all(prefix: &str) -> io::Result<()> {
    let table = std::fs::read("/proc/thread-self/net/unix")?;
    for name in unix::receiving(&table).into_iter().filter(|name| name.starts_with(prefix.as_bytes())) {
        let Ok(address) = SocketAddrUnix::new_abstract_name(&name) else { continue };
        // One for each: what others leave in their queues counts against its sender (SO_SNDBUF, socket(7)), and with all
        // of it used up nobody else would be told.
        let socket = datagram_socket()?;
        // It may have ended, or be connected to somebody else, or full.
        let _ = rustix::net::sendto(&socket, &[], SendFlags::DONTWAIT, &address);
    }
    Ok(())
}

fn datagram_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Netns;

    fn prefix(what: &str) -> String {
        format!("snorkel-test-of-notify-{}/{what}/", std::process::id())
    }

    /// How many notifications lie there.
    fn taken(listener: &Listener) -> usize {
        std::iter::from_fn(|| listener.take().ok()).count()
    }

    #[test]
    fn all_who_wait_under_the_prefix_are_told_and_nobody_else() {
        let (here, there) = (prefix("here"), prefix("there"));
        let waiting: Vec<Listener> = (0..3).map(|_| Listener::bind(&here).unwrap()).collect();
        let other = Listener::bind(&there).unwrap();
        assert_eq!(waiting[0].take().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        all(&here).unwrap();
        assert_eq!(waiting.iter().map(taken).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(taken(&other), 0);
        drop(waiting);
        all(&here).unwrap();
    }

    #[test]
    fn another_network_namespace_is_not_told() {
        let prefix = prefix("elsewhere");
        let private = Netns::private().expect("this test needs root");
        let there = private.run(|| Listener::bind(&prefix)).unwrap().unwrap();
        all(&prefix).unwrap();
        assert_eq!(taken(&there), 0);
        private.run(|| all(&prefix)).unwrap().unwrap();
        assert_eq!(taken(&there), 1);
    }

    #[test]
    fn those_who_never_take_anything_keep_nobody_from_being_told() {
        let prefix = prefix("full");
        // More of them than one socket may have sent to.
        let deaf: Vec<Listener> = (0..500).map(|_| Listener::bind(&prefix).unwrap()).collect();
        let listener = Listener::bind(&prefix).unwrap();
        for _ in 0..20 {
            all(&prefix).unwrap();
            assert_eq!(taken(&listener), 1);
        }
        assert!(deaf.iter().all(|deaf| taken(deaf) > 0));
    }

    #[test]
    fn what_is_no_datagram_socket_under_the_prefix_is_left_alone() {
        let prefix = prefix("stranger");
        let address = SocketAddrUnix::new_abstract_name(format!("{prefix}stream").as_bytes()).unwrap();
        let kind = SocketType::STREAM;
        let stream =
            rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::NONBLOCK, None).unwrap();
        rustix::net::bind(&stream, &address).unwrap();
        rustix::net::listen(&stream, 1).unwrap();
        let listener = Listener::bind(&prefix).unwrap();
        all(&prefix).unwrap();
        assert_eq!(taken(&listener), 1);
        assert_eq!(rustix::net::accept(&stream).unwrap_err(), Errno::AGAIN);
    }
}
