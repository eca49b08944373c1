//! A routing socket for users without rights: made in a user namespace of theirs.
//!
//! Whoever made a user namespace has every right over what belongs to it (user_namespaces(7)), and a rootless
//! container's network belongs to one. To make anything there one has to be in it, though, and a process of several
//! threads cannot go (setns(2)). So a child goes, makes a network namespace and a socket in it, hands the socket over
//! (unix(7), SCM_RIGHTS) and ends. Through that socket the networks of that user namespace, and of those below it, can
//! be read; the namespace that it is in goes when it is closed.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use crate::{Error, Process, Result};

/// An rtnetlink socket, not bound yet, in a fresh network namespace that the process's user namespace owns.
///
/// Fails for want of rights where that user namespace is not the caller's, and where it is the one he is in.
pub fn routing_socket_beside(process: &Process) -> Result<OwnedFd> {
    let failed = |e: io::Error| {
        Error::os(format!("make a socket in the user namespace of process {}", process.pid()), e)
    };
    let (mine, its) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(|e| failed(e.into()))?;
    // SAFETY: the child makes system calls only, by functions that neither allocate nor lock, and ends without
    // returning; that is allowed after a fork in a process of several threads (fork(2), signal-safety(7)).
    let child = match unsafe { libc::fork() } {
        -1 => return Err(failed(io::Error::last_os_error())),
        0 => hand_over(process.as_fd(), its.as_fd()),
        child => child,
    };
    drop(its);
    let received = receive(&mine);
    let mut status = 0;
    // SAFETY: the pointer is valid for one int. A child that somebody else has reaped is an error that does no harm.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    process.check_alive()?;
    received.map_err(failed)
}

/// The child's whole life.
fn hand_over(process: BorrowedFd<'_>, to: BorrowedFd<'_>) -> ! {
    let made = make(process);
    let errno = made.as_ref().map_or_else(|e| e.raw_os_error(), |_| 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let socket;
    if let Ok(made) = &made {
        socket = [made.as_fd()];
        beside.push(SendAncillaryMessage::ScmRights(&socket));
    }
    // The parent finds the connection closed if this fails.
    let _ = sendmsg(to, &[IoSlice::new(&errno.to_ne_bytes())], &mut beside, SendFlags::NOSIGNAL);
    // SAFETY: this ends the child, and runs nothing of the parent's that should run once.
    unsafe { libc::_exit(0) }
}

fn make(process: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    rustix::thread::move_into_thread_name_spaces(process, ThreadNameSpaceType::USER)?;
    // SAFETY: nothing of the child depends on the network that it leaves; no memory is touched.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    // NETLINK_ROUTE is protocol 0, which is the one that is taken if none is named (netlink(7)).
    rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
}

/// The socket, or the error that the child met.
fn receive(from: &OwnedFd) -> io::Result<OwnedFd> {
    let mut errno = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut errno)];
    let got = recvmsg(from, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let socket = beside.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    match (socket, i32::from_ne_bytes(errno)) {
        (Some(socket), _) => Ok(socket),
        (None, errno) if got.bytes == 4 && errno != 0 => Err(io::Error::from_raw_os_error(errno)),
        (None, _) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pid;
    use std::os::unix::process::CommandExt;

    #[test]
    fn a_socket_is_made_in_the_user_namespace_of_another_process() {
        let mut command = std::process::Command::new("cat");
        command.stdin(std::process::Stdio::piped());
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(|| Ok(rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER)?));
        }
        let mut child = command.spawn().expect("needs the right to make user namespaces");
        let process = Process::open(Pid::new(child.id() as i32).unwrap()).unwrap();
        let socket = routing_socket_beside(&process).unwrap();
        assert_eq!(rustix::net::sockopt::socket_domain(&socket).unwrap(), AddressFamily::NETLINK);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(matches!(routing_socket_beside(&process), Err(Error::Gone(_))));
    }

    #[test]
    fn the_own_user_namespace_is_refused() {
        let own = Process::open(Pid::own()).unwrap();
        assert!(matches!(routing_socket_beside(&own), Err(Error::Os { .. })));
    }
}
