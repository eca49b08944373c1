//! The system calls that have no safe face: fork, descriptors by number, the state a process inherits.
//!
//! A fork copies only the thread that calls it. What another thread held at that moment, such as the allocator's
//! lock, is held in the copy for ever (fork(2), signal-safety(7)). So nothing is forked here unless the process has
//! one thread, and that is checked, not believed.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::process::{Pid, Signal};
use rustix::thread::UnshareFlags;

use crate::process;

/// Which side of a fork this is.
pub enum Fork {
    /// The one who called; the child's PID.
    Parent(Pid),
    /// The copy.
    Child,
}

/// How many threads the calling process has. One that was waited for (pthread_join(3)) runs no more of the program, but is
/// still to be seen for a moment: it is on its way out, and is not counted. An error if they come and go all the time.
pub fn threads() -> io::Result<usize> {
    const NUM_THREADS: usize = 17;
    const TRIES: usize = 10_000;
    // The kernel ends the list at a thread that goes while it is read, before others that live (`next_tid` in
    // fs/proc/base.c). The list is whole if it has as many as there are, and none of it is gone by then.
    for _ in 0..TRIES {
        let tasks = std::fs::read_dir("/proc/self/task")?.map(|task| Ok(task?.path()));
        let tasks = tasks.collect::<io::Result<Vec<_>>>()?;
        let exiting = tasks.iter().filter(|task| is_exiting(task)).count();
        let all = process::stat_field(&std::fs::read_to_string("/proc/self/stat")?, NUM_THREADS);
        if all.ok_or(io::ErrorKind::InvalidData)? == tasks.len() as u64
            && tasks.iter().all(|task| task.exists())
        {
            return Ok(tasks.len() - exiting);
        }
    }
    Err(io::Error::other("the threads of this process come and go too fast to be counted"))
}

/// Whether a thread is on its way out (`PF_EXITING`, include/linux/sched.h); false if it is gone.
fn is_exiting(task: &Path) -> bool {
    const FLAGS: usize = 6;
    const PF_EXITING: u64 = 4;
    let stat = std::fs::read_to_string(task.join("stat"));
    stat.ok().and_then(|stat| process::stat_field(&stat, FLAGS)).is_some_and(|flags| flags & PF_EXITING != 0)
}

/// Copies the process. Refuses if it has more threads than one.
pub fn fork() -> io::Result<Fork> {
    if threads()? != 1 {
        return Err(io::Error::other("this process has several threads"));
    }
    // SAFETY: the process has one thread (above), so the child finds every lock and the allocator in a sound state.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => match Pid::from_raw(pid) {
            Some(pid) => Ok(Fork::Parent(pid)),
            None => Err(io::Error::other("fork gave no process id")),
        },
    }
}

/// Ends the process at once, without running what the parent's copy of the program would still run.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) touches no memory of the program and does not return.
    unsafe { libc::_exit(code) }
}

/// Puts the calling process, which has one thread, into new namespaces.
pub fn unshare(flags: UnshareFlags) -> io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: what makes unshare unsafe is CLONE_FILES, which no caller passes.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Closes every descriptor from 3 on that is not in `keep`. For a process that will not use, nor drop, any other.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> =
        keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).filter(|&fd| fd > 2).collect();
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep {
        close_range(first, fd.saturating_sub(1))?;
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

/// close_range(2), since 5.9; before that one by one through `/proc/self/fd`.
fn close_range(first: u32, last: u32) -> io::Result<()> {
    if first > last {
        return Ok(());
    }
    // SAFETY: the callers use and drop none of the descriptors in the range afterwards.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return Err(error);
    }
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for fd in open {
        if u32::try_from(fd).is_ok_and(|fd| (first..=last).contains(&fd)) {
            // SAFETY: as above. The descriptor of the listing itself is closed already: EBADF is no harm.
            unsafe { libc::close(fd) };
        }
    }
    Ok(())
}

/// Makes `target` (0, 1 or 2) a copy of `source`.
pub fn redirect(source: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    debug_assert!((0..3).contains(&target));
    // SAFETY: both are descriptors; the standard three belong to nobody who would close them.
    if unsafe { libc::dup2(source.as_raw_fd(), target) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A copy of one of the standard descriptors that nobody inherits over an exec.
pub fn copy_of_standard(fd: RawFd) -> io::Result<OwnedFd> {
    debug_assert!((0..3).contains(&fd));
    // SAFETY: the standard descriptors are open as long as nobody closes them, and nobody does.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()
}

/// What to do about a signal: nothing special, or nothing at all.
pub enum Disposition {
    /// What is usual for it.
    Default,
    /// Nothing.
    Ignore,
}

/// Sets what a signal does to this process.
pub fn on_signal(signal: Signal, disposition: Disposition) {
    let handler = match disposition {
        Disposition::Default => libc::SIG_DFL,
        Disposition::Ignore => libc::SIG_IGN,
    };
    // SAFETY: neither disposition runs code of this program.
    unsafe { libc::signal(signal.as_raw(), handler) };
}

/// Lets every signal through again: a mask is inherited over fork and exec.
pub fn unblock_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is read, and lives on this stack.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Waits until a child has ended, and leaves it unreaped: its PID stays its own. `None` if there is no child.
pub fn next_ended_child() -> io::Result<Option<Pid>> {
    loop {
        // SAFETY: siginfo_t is plain data for which zeroes are valid.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one siginfo_t to `info`.
        let waited = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT) };
        if waited == 0 {
            // SAFETY: waitid succeeded, so the fields of SIGCHLD are those that were written.
            return Ok(Pid::from_raw(unsafe { info.si_pid() }));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(error),
        }
    }
}
