//! Signals of a process that waits for others: held back and taken from a descriptor (signalfd(2)), so that they can be
//! passed on, and its end can be that of a signal.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use crate::{Error, Result};

/// Those that somebody sends to end a process or to tell it something.
pub(super) const PASSED_ON: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGWINCH,
];

/// The code of a signal that the kernel sent of itself (asm-generic/siginfo.h).
const SI_KERNEL: i32 = 0x80;

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal {
    /// Its number (signal(7)).
    pub number: i32,
    /// Whether the kernel sent it, as it does for the terminal: then all of the foreground group have got it.
    pub by_kernel: bool,
}

/// Signals that are held back until they are taken. Those that were ignored stay ignored; only SIGCHLD does not, since
/// children of a process that ignores it end without a status to be asked for (waitpid(2), "NOTES").
pub struct Signals {
    fd: OwnedFd,
    before: libc::sigset_t,
    ignored_children: bool,
}

impl Signals {
    /// Holds these signals back in the calling thread; the process must have no other that could get them.
    pub fn hold(numbers: &[i32]) -> Result<Signals> {
        let ignored_children = is_ignored(libc::SIGCHLD);
        if ignored_children {
            // SAFETY: takes numbers only; SIG_DFL runs no code.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        }
        // SAFETY: the sets are initialised by sigemptyset before they are read, and all pointers are to live locals.
        let (fd, before) = unsafe {
            let (mut set, mut before): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
            libc::sigemptyset(&raw mut set);
            libc::sigemptyset(&raw mut before);
            for number in numbers.iter().filter(|number| !is_ignored(**number)) {
                libc::sigaddset(&raw mut set, *number);
            }
            let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC);
            if fd >= 0 {
                libc::sigprocmask(libc::SIG_BLOCK, &raw const set, &raw mut before);
            }
            (fd, before)
        };
        if fd < 0 {
            return Err(Error::os("hold signals back", io::Error::last_os_error()));
        }
        // SAFETY: signalfd has just given this descriptor, and nobody else has it.
        Ok(Signals { fd: unsafe { OwnedFd::from_raw_fd(fd) }, before, ignored_children })
    }

    /// Waits for the next one.
    pub fn take(&self) -> io::Result<Signal> {
        // SAFETY: the structure holds integers only; any bytes are a valid one.
        let mut info: libc::signalfd_siginfo = unsafe { zeroed() };
        let room = size_of::<libc::signalfd_siginfo>();
        loop {
            // SAFETY: the kernel writes at most `room` bytes to `info`, which is that long.
            let got = unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), room) };
            if got == room.cast_signed() {
                let by_kernel = info.ssi_code == SI_KERNEL;
                return Ok(Signal { number: info.ssi_signo.cast_signed(), by_kernel });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Lets the calling thread have its signals as before: for a child that becomes a command.
    pub(super) fn release(&self) {
        if self.ignored_children {
            // SAFETY: takes numbers only; SIG_IGN runs no code.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        }
        // SAFETY: the set is the one that sigprocmask gave.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn is_ignored(number: i32) -> bool {
    // SAFETY: asks only; the structure is a live local, and zeros are a valid one.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        libc::sigaction(number, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Whether SIGCONT has come and is held back; takes it.
pub(super) fn was_continued() -> bool {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set is initialised before it is read; both pointers are to live locals.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCONT);
        libc::sigtimedwait(&raw const set, ptr::null_mut(), &raw const now) == libc::SIGCONT
    }
}

/// Ends this process as one that the signal ended, without a second core dump. Returns if the signal does not end it.
pub fn die_of(number: i32) {
    // SAFETY: numbers only, SIG_DFL runs no code, and the set is initialised before it is read.
    unsafe {
        libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
        libc::signal(number, libc::SIG_DFL);
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, number);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut());
        libc::raise(number);
    }
}
