//! A network namespace as an open descriptor, and its identity.
//!
//! The inode number of a namespace (nsfs) is unique among those alive and used again later; the cookie
//! (`SO_NETNS_COOKIE`, socket(7), since 5.14; net/core/net_namespace.c) is never used again until the machine boots.
//! Together they identify a namespace, also across two looks at the machine.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `NS_GET_NSTYPE` of linux/nsfs.h, `_IO(0xb7, 3)`: the `CLONE_NEW*` flag of a namespace descriptor (ioctl_ns(2)).
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
/// `NS_GET_ID` of linux/nsfs.h, `_IOR(0xb7, 13, __u64)`, since 6.18.
const NS_GET_ID: libc::Ioctl = 0x8008_b70d_u32 as libc::Ioctl;
/// `PIDFD_GET_NET_NAMESPACE` of linux/pidfd.h, `_IO(0xff, 4)`, since 6.11.
const PIDFD_GET_NET_NAMESPACE: libc::Ioctl = 0xff04;
/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// Which network namespace: equal if and only if it is the same one, as long as the machine does not boot again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NetnsId {
    /// The inode number in nsfs, as `readlink /proc/PID/ns/net` and `ls -Li` show it.
    pub inode: u64,
    /// `SO_NETNS_COOKIE` of a socket inside; 0 where the kernel (before 5.14) has none.
    pub cookie: u64,
}

impl fmt::Display for NetnsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:[{}]", self.inode)
    }
}

/// An open network namespace. As long as the value lives the namespace does.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    inode: u64,
}

impl Netns {
    /// The namespace that the calling thread is in.
    pub fn current() -> Result<Netns> {
        Netns::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Opens the namespace that a path names: `/run/netns/NAME`, `/proc/PID/ns/net`, or any bind mount of one.
    ///
    /// The path is opened without effect first (`O_PATH`), so that a FIFO or a device in its place is not touched.
    pub fn open(path: &Path) -> Result<Netns> {
        let what = || format!("open the network namespace {}", path.display());
        let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::os(what(), e))?;
        let not = |why| Error::NotANetns { path: path.to_owned(), why };
        // f_type is signed on some architectures and unsigned on others; the magic number fits both.
        if rustix::fs::fstatfs(&place).map_err(|e| Error::os(what(), e))?.f_type as u64 != NSFS_MAGIC {
            return Err(not("it is an ordinary file"));
        }
        let again = format!("/proc/thread-self/fd/{}", place.as_raw_fd());
        let fd = rustix::fs::open(&again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::os(what(), e))?;
        Netns::checked(fd)
            .map_err(|e| Error::os(what(), e))?
            .ok_or_else(|| not("it is a namespace of another kind"))
    }

    /// Takes an open descriptor of a network namespace; `None` if it is one of another kind.
    fn checked(fd: OwnedFd) -> io::Result<Option<Netns>> {
        // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory; the descriptor is open.
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
        if kind < 0 {
            return Err(io::Error::last_os_error());
        }
        if kind != libc::CLONE_NEWNET {
            return Ok(None);
        }
        let inode = rustix::fs::fstat(&fd)?.st_ino;
        Ok(Some(Netns { fd, inode }))
    }

    /// The namespace of the process that a pidfd is of. Whatever the kernel says against it, a path in /proc may still
    /// lead there.
    pub(crate) fn of_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<Netns> {
        // SAFETY: PIDFD_GET_NET_NAMESPACE takes no argument and writes no memory; the descriptor is open.
        let fd = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_NET_NAMESPACE, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel made this descriptor for the caller, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let inode = rustix::fs::fstat(&fd)?.st_ino;
        Ok(Netns { fd, inode })
    }

    /// A fresh namespace that nothing but the returned handle holds: it goes when the handle does.
    pub fn private() -> Result<Netns> {
        on_thread("make a private network namespace", || {
            // SAFETY: only this short-lived thread changes its namespace; unshare(CLONE_NEWNET) touches no memory.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }
                .map_err(|e| Error::os("make a private network namespace", e))?;
            Netns::current()
        })?
    }

    /// The inode number: enough to compare namespaces that are open at the same time.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Inode and cookie. Asks the kernel from inside the namespace (a socket made there).
    pub fn id(&self) -> Result<NetnsId> {
        let cookie = self.run(cookie_here)?;
        Ok(NetnsId { inode: self.inode, cookie: cookie.unwrap_or(0) })
    }

    /// The identities of many namespaces: asked of their descriptors where the kernel tells it there, else read by one
    /// thread that visits each in turn. A namespace that would have to be entered and may not be has the cookie 0.
    pub fn ids(all: &[&Netns]) -> Vec<NetnsId> {
        let tell = |netns: &&Netns| Some(NetnsId { inode: netns.inode, cookie: netns.number()? });
        if number_is_cookie()
            && let Some(ids) = all.iter().map(tell).collect()
        {
            return ids;
        }
        let visit = || {
            let cookie = |netns: &&Netns| {
                let entered = move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network));
                let cookie = if entered.is_ok() { cookie_here().unwrap_or(0) } else { 0 };
                NetnsId { inode: netns.inode, cookie }
            };
            all.iter().map(cookie).collect()
        };
        on_thread("visit network namespaces", visit)
            .unwrap_or_else(|_| all.iter().map(|netns| NetnsId { inode: netns.inode, cookie: 0 }).collect())
    }

    /// Runs `inside` in this namespace, on a thread of its own that ends with it; the caller's thread never moves.
    ///
    /// Sockets that `inside` makes and returns stay in this namespace wherever they are used.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        let fd = self.fd.as_fd();
        let inode = self.inode;
        on_thread("work inside a network namespace", move || {
            move_into_link_name_space(fd, Some(LinkNameSpaceType::Network))
                .map_err(|e| Error::os(format!("enter the network namespace net:[{inode}]"), e))?;
            Ok(inside())
        })?
    }

    /// The number that the kernel has for the namespace among those of all kinds; none before 6.18.
    fn number(&self) -> Option<u64> {
        let mut number = 0u64;
        // SAFETY: NS_GET_ID writes one u64 to the pointer, which is valid for it; the descriptor is open.
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), NS_GET_ID, &raw mut number) };
        (done >= 0).then_some(number)
    }

    /// A second handle on the same namespace.
    pub fn try_clone(&self) -> Result<Netns> {
        let fd = self.fd.try_clone().map_err(|e| Error::os("duplicate a namespace descriptor", e))?;
        Ok(Netns { fd, inode: self.inode })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Netns> for File {
    fn from(netns: Netns) -> File {
        netns.fd.into()
    }
}

/// Whether the number of a network namespace is its cookie, which it is where the kernel takes both from one counter
/// (kernel/nstree.c). The own namespace is looked at rather than the kernel's version.
fn number_is_cookie() -> bool {
    let cookie = cookie_here().ok();
    cookie.is_some() && cookie == Netns::current().ok().and_then(|own| own.number())
}

/// Runs `work` on a thread of its own and waits for it.
fn on_thread<T: Send>(what: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("snorkel-inside".into())
            .spawn_scoped(scope, work)
            .map_err(|e| Error::os(what.to_owned(), e))?;
        // A panic inside is a bug of the caller's closure: it goes on where it can be seen.
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// `SO_NETNS_COOKIE` (asm-generic/socket.h) of the calling thread's namespace; ENOPROTOOPT if the kernel has none.
pub fn cookie_here() -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `cookie`, which is that long; the socket is open.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if got == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pid, Process};

    #[test]
    fn many_identities_at_once_are_those_that_sockets_inside_tell() {
        let made: Vec<Netns> = (0..3).map(|_| Netns::private().expect("this test needs root")).collect();
        let all: Vec<&Netns> = made.iter().collect();
        let one_by_one: Vec<NetnsId> = all.iter().map(|netns| netns.id().unwrap()).collect();
        assert_eq!(Netns::ids(&all), one_by_one);
        assert!(one_by_one.iter().all(|id| id.cookie != 0));
    }

    #[test]
    fn a_process_is_in_the_namespace_that_its_path_names() {
        let own = Process::open(Pid::own()).unwrap();
        assert_eq!(own.netns().unwrap().inode(), Netns::current().unwrap().inode());
        if let Ok(netns) = Netns::of_pidfd(own.as_fd()) {
            assert_eq!(netns.id().unwrap(), Netns::current().unwrap().id().unwrap());
        }
    }
}
