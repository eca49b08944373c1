//! A user's own engine may say anything, also that the process of somebody else's container is one of his. Root, who
//! asks such an engine, must not be led astray by it.
//!
//! A rootless container lives in a user namespace that its user owns, or in one below it: `NS_GET_OWNER_UID` and
//! `NS_GET_PARENT` of ioctl_ns(2) say so.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use snorkel_netns::{Peer, Pid};

use crate::fault::{Fault, Result};
use crate::{Container, users};

/// `_IO(0xb7, 2)` and `_IO(0xb7, 4)` of linux/nsfs.h.
const NS_GET_PARENT: libc::Ioctl = 0xb702;
const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;
/// The kernel nests user namespaces no deeper (user_namespaces(7)).
const DEEPEST: usize = 33;

/// Whose engine answers on a connection. It is the connection that is asked (`SO_PEERCRED`, unix(7)): what lies at the
/// path may be another socket by now. On a socket in a user's directory only that user is listened to.
pub(crate) fn of_engine(connection: impl AsFd, path: &Path) -> Result<u32> {
    let Peer { uid, .. } =
        Peer::of(connection).map_err(|source| Fault::Connect { path: path.to_owned(), source })?;
    match users::of_runtime_path(path).filter(|user| *user != uid && users::own_uid() == 0) {
        None => Ok(uid),
        Some(user) => Err(Fault::Foreign(format!(
            "lies in the directory of user {}, but it is user {} who answers on it",
            users::name_of(user),
            users::name_of(uid)
        ))),
    }
}

/// Refuses a process that cannot be this engine's, and notes whose engine it is that says all this.
/// `uid` is whose engine it is, for those that users may have.
pub(crate) fn check(container: &mut Container, uid: Option<u32>) -> Result<()> {
    let Some(uid) = uid.filter(|uid| *uid != 0 && users::own_uid() == 0) else { return Ok(()) };
    container.told_by = Some(uid);
    // It is in the mount namespace of the user's engine; by that name something else may lie here.
    container.netns_path = None;
    match container.pid.map(|pid| (pid, belongs_to(pid, uid))) {
        None | Some((_, Ok(true))) => Ok(()),
        Some((pid, Ok(false))) => Err(Fault::Foreign(format!(
            "says that process {pid} is its container {}, but that process does not belong to user {}",
            container.qualified(),
            users::name_of(uid)
        ))),
        // Gone since: whoever enters finds out.
        Some((_, Err(e))) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) => {
            Ok(())
        }
        Some((pid, Err(source))) => {
            Err(Fault::Read { path: Path::new("/proc").join(pid.to_string()).join("ns/user"), source })
        }
    }
}

/// Whether a process is in a user namespace that a user owns, or in one below such.
fn belongs_to(pid: Pid, uid: u32) -> io::Result<bool> {
    let mut namespace: OwnedFd = File::open(format!("/proc/{pid}/ns/user"))?.into();
    for _ in 0..DEEPEST {
        if owner(&namespace)? == uid {
            return Ok(true);
        }
        match parent(&namespace) {
            Ok(above) => namespace = above,
            // The asker's own namespace has no parent that he could see.
            Err(e) if e.raw_os_error() == Some(libc::EPERM) => return Ok(false),
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

fn owner(namespace: &OwnedFd) -> io::Result<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: the kernel writes one uid_t to the pointer, which is valid for it; the descriptor is open.
    let done = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut uid) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(uid) }
}

fn parent(namespace: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: NS_GET_PARENT takes no argument and writes no memory; the descriptor is open.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel made this descriptor for the caller, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Engine;

    #[test]
    fn a_process_of_the_host_belongs_to_no_user_below_root() {
        assert!(!belongs_to(Pid::own(), 4_000_000).unwrap());
    }

    #[test]
    fn an_engine_of_a_user_cannot_pass_off_a_process_of_the_host_as_its_own() {
        assert_eq!(users::own_uid(), 0, "this test needs root");
        let mut container = Container { pid: Some(Pid::own()), ..Container::new(Engine::Docker, "a") };
        assert!(matches!(check(&mut container, Some(4_000_000)), Err(Fault::Foreign(_))));
        assert_eq!(container.told_by, Some(4_000_000));
        container.pid = Some(Pid::own());
        assert!(check(&mut container, Some(0)).is_ok());
    }

    #[test]
    fn in_a_users_directory_nobody_else_is_listened_to() {
        assert_eq!(users::own_uid(), 0, "this test needs root");
        let (root, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(matches!(of_engine(&root, "/run/user/4000000/docker.sock".as_ref()), Err(Fault::Foreign(_))));
        assert_eq!(of_engine(&root, "/run/docker.sock".as_ref()).unwrap(), 0);
    }
}
