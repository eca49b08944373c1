//! Files of a container, read as data that the container may have forged.
//!
//! A path is resolved inside the container's root (`openat2` with `RESOLVE_IN_ROOT`, openat2(2)), so that no symbolic
//! link leads out of it. It is opened without effect (`O_PATH`), and only then, if it is an ordinary file of an
//! ordinary file system, for reading: a FIFO is never waited for, a device never opened, and never more bytes are
//! read than the file claims to have or the limit allows. Where another process could stall the file system (FUSE),
//! a child of its own does the reading and is left behind if it does not come back.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::mounts;
use crate::{Process, Result};

/// How long a stalling file system may take before its file counts as unreadable.
const PATIENCE: Duration = Duration::from_secs(2);

const FIFO: &str = "a FIFO";
const DEVICE: &str = "a device";
const DIRECTORY: &str = "a directory";
const SOCKET: &str = "a socket";
const STRANGE: &str = "something strange";
const LOOP: &str = "a loop of symbolic links, or one into /proc";
const KERNEL: &str = "the kernel's (procfs, sysfs or their like)";
/// What a file can be instead of an ordinary one; its position is the word's code between the processes.
const KINDS: [&str; 7] = [FIFO, DEVICE, DIRECTORY, SOCKET, STRANGE, LOOP, KERNEL];

/// Why a file of a container was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    Missing,
    /// It is something else than an ordinary file: the word says what.
    Not(&'static str),
    /// It has more bytes than anybody needs there.
    TooLarge,
    /// It belongs to another user than to the one who named it.
    Foreign,
    /// Its file system did not answer in time.
    Stalled,
    /// The kernel refused.
    Os(Errno),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Missing => f.write_str("there is none"),
            Refused::Not(what) => write!(f, "it is {what}, not an ordinary file"),
            Refused::TooLarge => f.write_str("it is far larger than such a file ever is"),
            Refused::Foreign => f.write_str("it is not a file of the user whose engine names it"),
            Refused::Stalled => write!(f, "its file system gave no answer within {} s", PATIENCE.as_secs()),
            Refused::Os(e) => e.fmt(f),
        }
    }
}

/// A container's files, seen from its root directory.
#[derive(Debug)]
pub struct Guest {
    root: OwnedFd,
    /// Who may own a file that is read; none: anybody.
    owner: Option<u32>,
    may_stall: bool,
    /// Whether it did: then nobody is sent there again.
    stalled: Cell<bool>,
}

impl Guest {
    /// The files as this process sees them.
    pub fn of(process: &Process) -> Result<Guest> {
        let root = process.root()?;
        let may_stall = mounts::any_may_stall(&process.folder());
        Ok(Guest { root, owner: None, may_stall, stalled: Cell::new(false) })
    }

    /// The host's own files, for those that an engine keeps there on a container's behalf. With an `owner` only those
    /// of that user; what lies on the way to them may be that user's, too, and stall.
    pub(super) fn of_host(owner: Option<u32>) -> Result<Guest, Refused> {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.map_err(Refused::Os)?;
        Ok(Guest { root, owner, may_stall: owner.is_some(), stalled: Cell::new(false) })
    }

    /// Reads an ordinary file of at most `limit` bytes; `path` is relative to the container's root.
    pub fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Refused> {
        if !self.may_stall {
            return self.read_here(path, limit);
        }
        if self.stalled.get() {
            return Err(Refused::Stalled);
        }
        let read = read_apart(self.root.as_fd(), path, limit, self.owner);
        self.stalled.set(read == Err(Refused::Stalled));
        read
    }

    fn read_here(&self, path: &Path, limit: u64) -> Result<Vec<u8>, Refused> {
        let (file, size) = open(self.root.as_fd(), path, limit, self.owner)?;
        // The size is below the limit: `open` has seen to that.
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        File::from(file).take(size).read_to_end(&mut bytes).map_err(refused)?;
        Ok(bytes)
    }
}

fn refused(error: io::Error) -> Refused {
    Refused::Os(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Opens the file if it is one that may be read, and says how many bytes of it are to be read. Allocates nothing.
fn open(
    root: BorrowedFd<'_>,
    path: &Path,
    limit: u64,
    owner: Option<u32>,
) -> Result<(OwnedFd, u64), Refused> {
    let place = rustix::fs::openat2(
        root,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    let place = match place {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(Refused::Missing),
        Err(Errno::LOOP) => return Err(Refused::Not(LOOP)),
        Err(e) => return Err(Refused::Os(e)),
    };
    let stat = rustix::fs::fstat(&place).map_err(Refused::Os)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Fifo => return Err(Refused::Not(FIFO)),
        FileType::CharacterDevice | FileType::BlockDevice => return Err(Refused::Not(DEVICE)),
        FileType::Directory => return Err(Refused::Not(DIRECTORY)),
        FileType::Socket => return Err(Refused::Not(SOCKET)),
        _ => return Err(Refused::Not(STRANGE)),
    }
    if owner.is_some_and(|owner| owner != stat.st_uid) {
        return Err(Refused::Foreign);
    }
    // An ordinary file by its mode, a window into the kernel by its content: /proc/kmsg, /proc/kcore, tracefs.
    if is_the_kernels(rustix::fs::fstatfs(&place).map_err(Refused::Os)?.f_type as u64) {
        return Err(Refused::Not(KERNEL));
    }
    let bytes = u64::try_from(stat.st_size).unwrap_or(0);
    if bytes > limit {
        return Err(Refused::TooLarge);
    }
    let mut again = [0u8; 32];
    let again = fd_path(place.as_raw_fd(), &mut again);
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(again, flags, Mode::empty()).map_err(Refused::Os)?;
    Ok((file, bytes))
}

/// Whether this magic number of linux/magic.h is of a file system whose files are the kernel's own.
fn is_the_kernels(magic: u64) -> bool {
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    const DEBUGFS: u64 = 0x6462_6720;
    const TRACEFS: u64 = 0x7472_6163;
    const CGROUP: u64 = 0x27_e0eb;
    const CGROUP2: u64 = 0x6367_7270;
    const BPFFS: u64 = 0xcafe_4a11;
    const SECURITYFS: u64 = 0x7363_6673;
    const NSFS: u64 = 0x6e73_6673;
    matches!(magic, PROC | SYSFS | DEBUGFS | TRACEFS | CGROUP | CGROUP2 | BPFFS | SECURITYFS | NSFS)
}

/// Writes `/proc/self/fd/N` into the buffer, without the allocator: this also runs in a forked child.
fn fd_path(fd: i32, buffer: &mut [u8; 32]) -> &str {
    use std::io::Write;
    let room = buffer.len();
    let mut rest = &mut buffer[..];
    // Cannot fail: "/proc/self/fd/" and ten digits are 24 bytes.
    let _ = write!(rest, "/proc/self/fd/{fd}");
    let used = room - rest.len();
    std::str::from_utf8(&buffer[..used]).unwrap_or("")
}

/// Reads in a grandchild, so that a file system that never answers holds up nobody: the grandchild is nobody's child
/// to wait for, holds nothing of the caller's, and dies when its system call returns, or before where the kernel lets it
/// be interrupted.
fn read_apart(root: BorrowedFd<'_>, path: &Path, limit: u64, owner: Option<u32>) -> Result<Vec<u8>, Refused> {
    let (ours, theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Refused::Os)?;
    // SAFETY: other threads may exist; the child calls only async-signal-safe functions (signal-safety(7); the rest are
    // bare system calls) and never returns from this block.
    match unsafe { libc::fork() } {
        -1 => return Err(refused(io::Error::last_os_error())),
        0 => {
            // SAFETY: as above; the middle process exists only to be reaped at once.
            unsafe {
                if libc::fork() == 0 {
                    stand_alone(root.as_raw_fd(), theirs.as_raw_fd());
                    relay(root, path, limit, owner, theirs.as_fd());
                }
                libc::_exit(0)
            }
        }
        middle => {
            // SAFETY: waits for our own child, which does nothing but fork and exit.
            unsafe { libc::waitpid(middle, std::ptr::null_mut(), 0) };
        }
    }
    drop(theirs);
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs() as _, tv_nsec: left.subsec_nanos() as _ };
        let mut waits = [PollFd::new(&ours, PollFlags::IN)];
        match rustix::event::poll(&mut waits, Some(&left)) {
            Ok(0) => return Err(Refused::Stalled),
            Ok(_) | Err(Errno::INTR) if waits[0].revents().is_empty() => continue,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(e) => return Err(Refused::Os(e)),
        }
        match rustix::io::read(&ours, &mut chunk) {
            Ok(0) => return verdict(bytes),
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Refused::Os(e)),
        }
    }
}

/// Lets go of all that the forked process has of the caller: a reader of the caller's output must not wait for it, nor
/// its terminal. Its end is set, too: a request that the file system has not taken yet can be interrupted by a signal
/// that kills (fs/fuse/dev.c, `request_wait_answer`).
fn stand_alone(root: i32, pipe: i32) {
    let (low, high) = (root.min(pipe).cast_unsigned(), root.max(pipe).cast_unsigned());
    let gaps = [(0, low.checked_sub(1)), (low + 1, high.checked_sub(1)), (high + 1, Some(u32::MAX))];
    // SAFETY: takes numbers only, and the descriptors that are closed are of this process alone, which uses none of
    // them; SIG_DFL runs no code; the set is initialised before it is used.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        for (first, last) in gaps {
            let Some(last) = last.filter(|last| *last >= first) else { continue };
            // close_range(2) came with 5.9.
            if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
                (first..=last.min(4096)).for_each(|fd| {
                    libc::close(fd.cast_signed());
                });
            }
        }
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::alarm(PATIENCE.as_secs() as u32);
    }
}

/// The grandchild's work: the file's bytes into the pipe, then one byte more that says it was all, or why it was not.
fn relay(root: BorrowedFd<'_>, path: &Path, limit: u64, owner: Option<u32>, pipe: BorrowedFd<'_>) {
    let mut chunk = [0u8; 4096];
    let end = match open(root, path, limit, owner) {
        Err(why) => code(why),
        Ok((file, mut left)) => loop {
            let want = left.min(chunk.len() as u64) as usize;
            match rustix::io::read(&file, &mut chunk[..want]) {
                Ok(0) => break [0, 0],
                Ok(n) => {
                    left -= n as u64;
                    if write_all(pipe, &chunk[..n]).is_err() {
                        return;
                    }
                }
                Err(e) => break code(Refused::Os(e)),
            }
        },
    };
    let _ = write_all(pipe, &end);
}

fn write_all(pipe: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        bytes = &bytes[rustix::io::write(pipe, bytes)?..];
    }
    Ok(())
}

/// Two bytes at the end of the relay: kind and detail.
fn code(why: Refused) -> [u8; 2] {
    match why {
        Refused::Missing => [1, 0],
        Refused::Not(what) => [2, KINDS.iter().position(|kind| *kind == what).unwrap_or(0) as u8],
        Refused::TooLarge => [3, 0],
        Refused::Stalled => [4, 0],
        Refused::Foreign => [6, 0],
        Refused::Os(e) => [5, e.raw_os_error().clamp(0, 255) as u8],
    }
}

fn verdict(mut bytes: Vec<u8>) -> Result<Vec<u8>, Refused> {
    let end = bytes.len().checked_sub(2).map(|at| bytes.split_off(at));
    match end.as_deref() {
        Some([0, _]) => Ok(bytes),
        Some([1, _]) => Err(Refused::Missing),
        Some([2, kind]) => Err(Refused::Not(KINDS.get(usize::from(*kind)).copied().unwrap_or(STRANGE))),
        Some([3, _]) => Err(Refused::TooLarge),
        Some([6, _]) => Err(Refused::Foreign),
        Some([5, e]) => Err(Refused::Os(Errno::from_raw_os_error(i32::from(*e)))),
        _ => Err(Refused::Stalled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn guest(dir: &Path, may_stall: bool) -> Guest {
        let root = rustix::fs::open(dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        Guest { root, owner: None, may_stall, stalled: Cell::new(false) }
    }

    fn both_ways(check: impl Fn(&Path, &Guest)) {
        for may_stall in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::create_dir(dir.path().join("etc")).unwrap();
            check(dir.path(), &guest(dir.path(), may_stall));
        }
    }

    #[test]
    fn an_ordinary_file_is_read_whole() {
        both_ways(|dir, guest| {
            let content = "nameserver 10.0.0.53\n".repeat(900);
            std::fs::write(dir.join("etc/resolv.conf"), &content).unwrap();
            assert_eq!(guest.read(Path::new("etc/resolv.conf"), 1 << 20).unwrap(), content.as_bytes());
        });
    }

    #[test]
    fn an_absolute_link_stays_inside_the_root() {
        both_ways(|dir, guest| {
            std::fs::write(dir.join("inside"), "inside").unwrap();
            symlink("/../../inside", dir.join("etc/resolv.conf")).unwrap();
            assert_eq!(guest.read(Path::new("etc/resolv.conf"), 100).unwrap(), b"inside");
            symlink("/etc/passwd", dir.join("etc/hosts")).unwrap();
            assert_eq!(guest.read(Path::new("etc/hosts"), 1 << 20), Err(Refused::Missing));
        });
    }

    #[test]
    fn a_fifo_is_not_waited_for() {
        both_ways(|dir, guest| {
            rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("etc/resolv.conf"), Mode::RUSR).unwrap();
            assert_eq!(guest.read(Path::new("etc/resolv.conf"), 100), Err(Refused::Not(FIFO)));
        });
    }

    #[test]
    fn a_file_beyond_the_limit_is_not_read() {
        both_ways(|dir, guest| {
            File::create(dir.join("etc/resolv.conf")).unwrap().set_len(1 << 30).unwrap();
            assert_eq!(guest.read(Path::new("etc/resolv.conf"), 65536), Err(Refused::TooLarge));
        });
    }

    #[test]
    fn what_one_user_names_must_be_that_users_own_whatever_link_leads_there() {
        both_ways(|dir, guest| {
            std::fs::write(dir.join("etc/resolv.conf"), "mine").unwrap();
            std::fs::write(dir.join("etc/shadow"), "secret").unwrap();
            let alice = 4_000_000;
            std::os::unix::fs::chown(dir.join("etc/resolv.conf"), Some(alice), None)
                .expect("this test needs root");
            let hers = Guest { owner: Some(alice), ..self::guest(dir, guest.may_stall) };
            assert_eq!(hers.read(Path::new("etc/resolv.conf"), 100).unwrap(), b"mine");
            assert_eq!(hers.read(Path::new("etc/shadow"), 100), Err(Refused::Foreign));
            std::fs::remove_file(dir.join("etc/resolv.conf")).unwrap();
            symlink("shadow", dir.join("etc/resolv.conf")).unwrap();
            assert_eq!(hers.read(Path::new("etc/resolv.conf"), 100), Err(Refused::Foreign));
            assert_eq!(guest.read(Path::new("etc/resolv.conf"), 100).unwrap(), b"secret");
        });
    }

    #[test]
    fn the_kernels_own_files_are_not_taken_for_ordinary_ones() {
        let guest = guest(Path::new("/proc"), false);
        assert_eq!(guest.read(Path::new("kmsg"), 100), Err(Refused::Not(KERNEL)));
        assert_eq!(guest.read(Path::new("version"), 100), Err(Refused::Not(KERNEL)));
    }
}
