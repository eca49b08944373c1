//! A process by its pidfd: what is read of it under /proc is proved to be of this very process.
//!
//! A PID is used again as soon as its process was reaped. While a pidfd's process has not been reaped, its PID is its
//! own; so what was read through `/proc/PID` is certain once `pidfd_send_signal(fd, 0)` succeeds *afterwards*
//! (pidfd_open(2), pidfd_send_signal(2)). runc and lxc-attach guard themselves the same way.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};
use rustix::process::PidfdFlags;
use serde::{Deserialize, Serialize};

use crate::{Error, Netns, Result};

/// A process id as this machine's /proc shows it; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Pid(i32);

impl Pid {
    /// `None` for zero (what engines say of a stopped container) and below.
    pub fn new(pid: i32) -> Option<Pid> {
        (pid > 0).then_some(Pid(pid))
    }

    /// The number.
    pub fn get(self) -> i32 {
        self.0
    }

    /// The process that asks.
    pub fn own() -> Pid {
        Pid(rustix::process::getpid().as_raw_nonzero().get())
    }

    fn raw(self) -> Result<rustix::process::Pid> {
        rustix::process::Pid::from_raw(self.0).ok_or(Error::Gone(self))
    }
}

impl TryFrom<i32> for Pid {
    type Error = String;
    fn try_from(pid: i32) -> Result<Pid, String> {
        Pid::new(pid).ok_or_else(|| format!("{pid} is not a process id"))
    }
}

impl From<Pid> for i32 {
    fn from(pid: Pid) -> i32 {
        pid.0
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A process that was opened once and is meant ever after.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    fd: OwnedFd,
}

impl Process {
    /// Opens the process that has this PID now.
    pub fn open(pid: Pid) -> Result<Process> {
        match rustix::process::pidfd_open(pid.raw()?, PidfdFlags::empty()) {
            Ok(fd) => Ok(Process { pid, fd }),
            // EINVAL: the PID is a thread's, not a process's.
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Err(Error::Gone(pid)),
            Err(e) => Err(Error::os(format!("open process {pid}"), e)),
        }
    }

    /// Its PID. Only its own as long as [`Process::check_alive`] succeeds.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Succeeds as long as the process was not reaped: its PID is its own until then.
    pub fn check_alive(&self) -> Result<()> {
        // Signal 0 through a pidfd cannot be expressed in rustix's types.
        // SAFETY: pidfd_send_signal with a null siginfo reads no memory; the descriptor is open.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                std::os::fd::AsRawFd::as_raw_fd(&self.fd),
                0,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match std::io::Error::last_os_error() {
            _ if sent == 0 => Ok(()),
            // Not ours to signal, but there.
            e if e.raw_os_error() == Some(libc::EPERM) => Ok(()),
            e if e.raw_os_error() == Some(libc::ESRCH) => Err(Error::Gone(self.pid)),
            e => Err(Error::os(format!("ask for process {}", self.pid), e)),
        }
    }

    /// Its network namespace.
    pub fn netns(&self) -> Result<Netns> {
        let read = Netns::open(&self.path("ns/net"));
        self.check_alive()?;
        read
    }

    /// Its root directory, opened for look-ups only.
    pub fn root(&self) -> Result<OwnedFd> {
        let read = rustix::fs::open(
            self.path("root"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        self.check_alive()?;
        read.map_err(|e| Error::os(format!("open the root directory of process {}", self.pid), e))
    }

    /// A small text file of its `/proc` folder, such as `cgroup` or `comm`; bytes that are not UTF-8 are replaced.
    pub fn read(&self, file: &str) -> Result<String> {
        // These files say that they are empty: room for one read instead of many.
        const USUAL: usize = 4096;
        let mut bytes = Vec::with_capacity(USUAL);
        let read = File::open(self.path(file)).and_then(|mut open| open.read_to_end(&mut bytes));
        self.check_alive()?;
        read.map_err(|e| Error::os(format!("read {}", self.path(file).display()), e))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `/proc/PID/FILE`.
    pub fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid))
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
