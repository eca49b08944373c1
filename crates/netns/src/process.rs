//! A process by its pidfd: what is read of it under /proc is proved to be of this very process.
//!
//! A PID is used again as soon as its process was reaped. While a pidfd's process has not been reaped, its PID is its
//! own; so what was read through `/proc/PID` is certain once the pidfd shows *afterwards* that the process has not ended:
//! it can be read from then on (pidfd_open(2)). A signal 0 through it would not tell one that has ended from one that
//! lives until it is reaped.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};
use rustix::process::PidfdFlags;
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

use crate::{Error, Netns, Result};

/// `ppid` and `starttime` of proc_pid_stat(5), 4 and 22 there, counted from `state`.
const PARENT: usize = 1;
const START: usize = 19;

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

    /// Succeeds as long as the process has not ended: its PID is its own until then, and until it is reaped.
    pub fn check_alive(&self) -> Result<()> {
        let mut ends = [PollFd::new(&self.fd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match rustix::io::retry_on_intr(|| rustix::event::poll(&mut ends, Some(&now))) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::Gone(self.pid)),
            Err(e) => Err(Error::os(format!("ask for process {}", self.pid), e)),
        }
    }

    /// The process whose child it is; none where that is not to be seen from here.
    pub fn parent(&self) -> Result<Option<Pid>> {
        Ok(self.stat(PARENT)?.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::new))
    }

    /// When it was started, counted from the beginning of 1970 by the clock as it is now set.
    pub fn started(&self) -> Result<Duration> {
        let ticks = self.start_ticks()?;
        let after_boot =
            Duration::from_millis(ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second());
        let clock = |id| {
            let time = rustix::time::clock_gettime(id);
            Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        let boot = clock(ClockId::Realtime).saturating_sub(clock(ClockId::Boottime));
        Ok(boot + after_boot)
    }

    /// When it was started, in clock ticks since the machine's boot: with its PID the name of a process for as long as
    /// the machine runs.
    pub fn start_ticks(&self) -> Result<u64> {
        let none =
            || Error::os(format!("read the start of process {}", self.pid), io::ErrorKind::InvalidData);
        self.stat(START)?.ok_or_else(none)
    }

    /// A field of `/proc/PID/stat`, counted from the one after the command's name.
    fn stat(&self, field: usize) -> Result<Option<u64>> {
        Ok(stat_field(&self.read("stat")?, field))
    }

    /// Its network namespace.
    pub fn netns(&self) -> Result<Netns> {
        // The pidfd itself leads to no other process's.
        if let Ok(netns) = Netns::of_pidfd(self.fd.as_fd()) {
            return Ok(netns);
        }
        let read = Netns::open(&self.path("ns/net"));
        self.check_alive()?;
        read
    }

    /// Whether it and this process share their namespace of this kind (a file of `/proc/PID/ns`). Where that may not be
    /// seen they are taken for two.
    pub fn shares(&self, kind: &str) -> Result<bool> {
        let place = |path: PathBuf| std::fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        let theirs = place(self.path("ns").join(kind));
        self.check_alive()?;
        Ok(theirs
            .is_ok_and(|theirs| place(format!("/proc/self/ns/{kind}").into()).is_ok_and(|own| own == theirs)))
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
        self.folder().join(file)
    }

    /// The folder itself.
    pub fn folder(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }
}

/// A field of a process's or a thread's `stat` (proc_pid_stat(5)), counted from the one after the command's name.
pub(crate) fn stat_field(stat: &str, field: usize) -> Option<u64> {
    // The name may hold spaces and brackets; none of them come behind it.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(field)?.parse().ok()
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
