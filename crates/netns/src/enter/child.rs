//! Children that become commands, and the process that waits for them: it passes signals on, ends as they do, and they
//! never outlive it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::signals::{PASSED_ON, Signals, die_of, was_continued};
use crate::{Error, Result};

/// The bond of a child to the process that waits for it.
#[derive(Debug)]
pub struct Tie(OwnedFd);

impl Tie {
    fn to_this_process() -> Result<Tie> {
        let fd = pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
        Ok(Tie(fd.map_err(|e| Error::os("open this process", e))?))
    }

    /// From here on the calling process is killed when the one that it is tied to ends, also by SIGKILL
    /// (`PR_SET_PDEATHSIG`, prctl(2)). A change of the identity undoes it, an exec of an ordinary program does not.
    pub(super) fn fasten(&self) {
        // SAFETY: takes numbers only.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
        // It may have ended before that.
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&now)) == Ok(1) {
            die_of(libc::SIGKILL);
        }
    }
}

/// Goes on as a child. The parent passes on what signals it gets, stops and goes on with the child, and ends as it does.
pub(super) fn fork_and_wait() -> Result<Tie> {
    let what = "fork into the process namespace";
    let tie = Tie::to_this_process()?;
    let mut held = PASSED_ON.to_vec();
    held.push(libc::SIGCHLD);
    let signals = Signals::hold(&held)?;
    // SAFETY: the process has no other threads by now (the engines' are gone), and the child goes on as the program.
    match unsafe { libc::fork() } {
        -1 => Err(Error::os(what, io::Error::last_os_error())),
        0 => {
            tie.fasten();
            signals.release();
            Ok(tie)
        }
        child => {
            drop(tie);
            wait_for(child, &signals)
        }
    }
}

fn wait_for(child: i32, signals: &Signals) -> ! {
    // SAFETY: the child is ours and was not reaped: its number is its own.
    let send = |number| unsafe { libc::kill(child, number) };
    loop {
        let came = signals.take();
        match came {
            // What the terminal sends, the child has got itself.
            Ok(signal) if signal.number != libc::SIGCHLD => {
                if !signal.by_kernel {
                    send(signal.number);
                }
                continue;
            }
            _ => {}
        }
        let mut status = 0;
        // Without signals to wait for, the child is waited for.
        let flags = libc::WUNTRACED | if came.is_ok() { libc::WNOHANG } else { 0 };
        // SAFETY: waits for our own child and writes one int.
        let waited = unsafe { libc::waitpid(child, &raw mut status, flags) };
        if waited < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            // Without its status nothing good can be said of it.
            std::process::exit(i32::from(NO_STATUS))
        }
        if waited <= 0 {
            continue;
        }
        if libc::WIFSTOPPED(status) {
            // The shell is to see that its job has stopped; unless it goes on already.
            if !was_continued() {
                // SAFETY: stops this process; takes a number.
                unsafe { libc::raise(libc::SIGSTOP) };
            }
            send(libc::SIGCONT);
            continue;
        }
        if libc::WIFSIGNALED(status) {
            die_of(libc::WTERMSIG(status));
            std::process::exit(128 + libc::WTERMSIG(status))
        }
        std::process::exit(libc::WEXITSTATUS(status))
    }
}

/// A child whose output is read here, with nothing to read itself.
#[derive(Debug)]
pub struct Spawned {
    pid: Pid,
    pidfd: OwnedFd,
    /// What it writes; reading does not wait.
    pub stdout: OwnedFd,
    /// What it complains; reading does not wait.
    pub stderr: OwnedFd,
}

/// Makes a process group of the calling process and what it starts: they can be ended together (setpgid(2)).
fn lead_a_group() {
    // SAFETY: takes numbers only.
    unsafe { libc::setpgid(0, 0) };
}

/// Forks a child, the leader of a process group of its own, that does `work` and ends with the status that this gives; it
/// may become a command on the way, for which it is given its tie. The child gets its signals as they were before `signals` held them back.
///
/// The calling process must have no other threads: the child goes on as the program.
pub fn spawn(signals: &Signals, work: impl FnOnce(Tie) -> u8) -> Result<Spawned> {
    let failed = |e: rustix::io::Errno| Error::os("start a child", e);
    let tie = Tie::to_this_process()?;
    let null = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let null = rustix::fs::open("/dev/null", null, rustix::fs::Mode::empty())
        .map_err(|e| Error::os("open /dev/null", e))?;
    let (stdout, out) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    let (stderr, err) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
    for fd in [&stdout, &stderr] {
        rustix::fs::fcntl_setfl(fd, rustix::fs::OFlags::NONBLOCK).map_err(failed)?;
    }
    // What is buffered is printed once.
    io::Write::flush(&mut io::stdout()).map_err(|e| Error::os("write to stdout", e))?;
    // SAFETY: the process has no other threads, as the caller promises; the child never leaves this block.
    match unsafe { libc::fork() } {
        -1 => Err(Error::os("start a child", io::Error::last_os_error())),
        0 => {
            tie.fasten();
            lead_a_group();
            signals.release();
            let taken = rustix::stdio::dup2_stdin(&null)
                .and_then(|()| rustix::stdio::dup2_stdout(&out))
                .and_then(|()| rustix::stdio::dup2_stderr(&err));
            // Neither an error nor a panic may lead back into the parent's part of the program.
            let status = match taken {
                Ok(()) => catch_unwind(AssertUnwindSafe(|| work(tie))).unwrap_or(NO_STATUS),
                Err(_) => NO_STATUS,
            };
            std::process::exit(i32::from(status))
        }
        pid => {
            let child = Pid::from_raw(pid).ok_or_else(|| failed(rustix::io::Errno::SRCH))?;
            let pidfd = pidfd_open(child, PidfdFlags::empty()).map_err(failed)?;
            Ok(Spawned { pid: child, pidfd, stdout, stderr })
        }
    }
}

/// How a child ends that could not even begin: the shells' word for "not the command's own status".
const NO_STATUS: u8 = 125;

impl Spawned {
    /// Sends a signal to it and to what it has started, as a terminal does. Not to be called once it was waited for.
    pub fn signal_group(&self, number: i32) {
        // SAFETY: the number is our child's, which was not reaped, and so the group's that it leads.
        if unsafe { libc::kill(-self.pid.as_raw_nonzero().get(), number) } != 0 {
            // It leads none yet.
            self.signal(number);
        }
    }

    /// Sends it a signal; one that has ended does not mind.
    pub fn signal(&self, number: i32) {
        // SAFETY: pidfd_send_signal with a null siginfo reads no memory; the descriptor is open.
        unsafe {
            let none = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), number, none, 0);
        }
    }

    /// Waits for its end, which has come when its descriptor can be read.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        let mut status = 0;
        loop {
            // SAFETY: waits for our own child and writes one int.
            if unsafe { libc::waitpid(self.pid.as_raw_nonzero().get(), &raw mut status, 0) } >= 0 {
                return Ok(ExitStatus::from_raw(status));
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl AsFd for Spawned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
