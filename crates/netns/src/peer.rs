//! Who is at the other end of a unix socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::Pid;

/// What the kernel noted of him when the connection was made or its name was bound (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// His process. None where it lies in a PID namespace that cannot be seen from here.
    pub pid: Option<Pid>,
    /// His user. Where his has no number in this user namespace, the one that stands for all such.
    pub uid: u32,
}

impl Peer {
    /// Asks the kernel.
    ///
    /// rustix's own question takes a PID of zero, which is that of a process out of sight, for impossible.
    pub fn of(socket: impl AsFd) -> io::Result<Peer> {
        let mut told = libc::ucred { pid: 0, uid: 0, gid: 0 };
        let mut length = size_of_val(&told) as libc::socklen_t;
        // SAFETY: the kernel writes at most as many bytes as are told to be there, any of which make a ucred.
        let done = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut told).cast(),
                &raw mut length,
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Peer { pid: Pid::new(told.pid), uid: told.uid })
    }

    /// Whether he is root or who asks.
    pub fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == rustix::process::geteuid().as_raw()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::thread::UnshareFlags;

    use super::*;

    #[test]
    fn a_peer_is_known_by_process_and_user() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer, Peer { pid: Some(Pid::own()), uid: rustix::process::geteuid().as_raw() });
        assert!(peer.is_trusted());
    }

    #[test]
    fn a_peer_out_of_sight_has_no_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let seen = std::thread::spawn(move || {
            // SAFETY: what this thread forks from now on is in a PID namespace of its own; nothing else changes.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }.expect("this test needs root");
            // SAFETY: the child makes two system calls and takes no lock.
            match unsafe { libc::fork() } {
                -1 => panic!("{}", io::Error::last_os_error()),
                0 => {
                    let unseen = matches!(Peer::of(&one), Ok(Peer { pid: None, uid: 0 }));
                    // SAFETY: it ends the process without a word to anybody.
                    unsafe { libc::_exit(i32::from(unseen)) }
                }
                child => {
                    let mut status = 0;
                    // SAFETY: it writes one number.
                    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                    libc::WEXITSTATUS(status)
                }
            }
        });
        assert_eq!(seen.join().unwrap(), 1);
    }
}
