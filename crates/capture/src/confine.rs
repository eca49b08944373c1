//! Giving up rights once everything is open: what reads packets that strangers made up must not be able to do more than
//! to read packets and to write the capture.
//!
//! Three fences, each of which holds without the others: capabilities (capabilities(7)), the file system (Landlock,
//! landlock(7), since 5.13) and system calls (seccomp(2)). Packet sockets and mapped rings that are open go on working:
//! rights were asked for when they were made. Each fence is of the calling thread and those it starts afterwards, so it
//! has to be put up before the first of them.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::file::Rights;

/// What is still to be possible.
#[derive(Debug, Default)]
pub struct Needs {
    /// The directory in which files are still to be made and removed; nothing else can be opened.
    pub directory: Option<OwnedFd>,
    /// The capabilities that making them takes, where they are another's to make (root's in a user's home): these stay,
    /// and the directory's fence is what holds them.
    pub rights: Rights,
}

/// What has been put up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    /// How far Landlock holds: not at all on kernels without it.
    pub files: Fence,
    /// How far seccomp holds.
    pub calls: Fence,
}

/// How far a fence holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// As it was meant.
    Whole,
    /// The kernel knows only a part of it.
    Partial,
    /// This kernel has none.
    Absent,
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |fence| match fence {
            Fence::Whole => "confined",
            Fence::Partial => "confined in part, the kernel is old",
            Fence::Absent => "not confined, the kernel cannot",
        };
        write!(f, "capabilities dropped; files {}; system calls {}", word(self.files), word(self.calls))
    }
}

/// A right could not be given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}")]
pub struct Error {
    what: &'static str,
    #[source]
    source: io::Error,
}

/// Gives up everything but what is needed. There is no way back.
pub fn confine(needs: &Needs) -> Result<Confined, Error> {
    // Neither Landlock nor seccomp may be asked for without this (or CAP_SYS_ADMIN), and no program that is started later
    // may give back what is dropped now.
    rustix::thread::set_no_new_privs(true).map_err(failed("give up gaining privileges"))?;
    let files = fence_files(needs).map_err(failed("confine access to files"))?;
    drop_capabilities(needs).map_err(failed("drop capabilities"))?;
    let calls = fence_calls().map_err(failed("confine system calls"))?;
    Ok(Confined { files, calls })
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |source| Error { what, source: source.into() }
}

fn drop_capabilities(needs: &Needs) -> Result<(), rustix::io::Errno> {
    let Rights { dac_override, chown, fowner } = needs.rights;
    let mut keep = CapabilitySet::empty();
    keep.set(CapabilitySet::DAC_OVERRIDE, dac_override);
    keep.set(CapabilitySet::CHOWN, chown);
    keep.set(CapabilitySet::FOWNER, fowner);
    let held = rustix::thread::capabilities(None)?.permitted;
    let keep = keep & held;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() },
    )
}

fn fence_files(needs: &Needs) -> io::Result<Fence> {
    // The newest that is known here; what the running kernel does not know is left out.
    let all = AccessFs::from_all(ABI::V5);
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
    let mut ruleset = ruleset.handle_access(all).and_then(Ruleset::create).map_err(io::Error::other)?;
    if let Some(directory) = &needs.directory {
        let here = AccessFs::ReadFile
            | AccessFs::ReadDir
            | AccessFs::WriteFile
            | AccessFs::MakeReg
            | AccessFs::RemoveFile
            | AccessFs::Truncate;
        ruleset = ruleset.add_rule(PathBeneath::new(directory, here)).map_err(io::Error::other)?;
    }
    let status = ruleset.restrict_self().map_err(io::Error::other)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Fence::Whole,
        RulesetStatus::PartiallyEnforced => Fence::Partial,
        RulesetStatus::NotEnforced => Fence::Absent,
    })
}

/// What reading rings, writing files, telling the time, waiting and ending take.
const CALLS: &[libc::c_long] = &[
    // Files that are open, and new ones in the directory.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_getdents64,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_dup,
    libc::SYS_vmsplice,
    libc::SYS_splice,
    // Rings: their counters, and their end, which is to be bound to nothing; descriptors of new ones from who may open them.
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_getsockname,
    libc::SYS_bind,
    // Waiting.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_create1,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    // Memory and threads.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getcpu,
    libc::SYS_capget,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_prctl,
    libc::SYS_prlimit64,
    // Signals, and the end.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

fn fence_calls() -> io::Result<Fence> {
    let Ok(arch) = TargetArch::try_from(std::env::consts::ARCH) else { return Ok(Fence::Absent) };
    let rules = CALLS.iter().map(|call| (*call, Vec::new())).collect();
    // A call that is not on the list is refused, not deadly: the capture goes on, and an error that matters is told.
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(Fence::Whole),
        Err(seccompiler::Error::Prctl(e) | seccompiler::Error::Seccomp(e))
            if e.raw_os_error() == Some(libc::EINVAL) =>
        {
            Ok(Fence::Absent)
        }
        Err(e) => Err(io::Error::other(e)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::UdpSocket;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The fences are of a thread and its children: a test's own thread, so that the others keep their rights.
    fn confined<T: Send + 'static>(needs: Needs, work: impl FnOnce(Confined) -> T + Send + 'static) -> T {
        std::thread::spawn(move || work(confine(&needs).unwrap())).join().unwrap()
    }

    #[test]
    fn files_can_be_made_in_the_directory_and_nowhere_else() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(there.path().join("secret"), "x").unwrap();
        fs::set_permissions(there.path().join("secret"), fs::Permissions::from_mode(0o666)).unwrap();
        let (inside, outside) = (here.path().join("a.pcapng"), there.path().to_owned());
        let directory = fs::File::open(here.path()).unwrap().into();
        let needs = Needs { directory: Some(directory), ..Needs::default() };
        let (confined, made, removed, read, written) = confined(needs, move |confined| {
            let made = fs::write(&inside, "packets").and_then(|()| fs::read_to_string(&inside));
            let removed = fs::remove_file(&inside);
            let read = fs::read(outside.join("secret")).map_err(|e| e.kind());
            let written = fs::write(outside.join("new"), "").map_err(|e| e.kind());
            (confined, made, removed, read, written)
        });
        assert_eq!(confined, Confined { files: Fence::Whole, calls: Fence::Whole });
        assert_eq!(made.unwrap(), "packets");
        removed.unwrap();
        assert_eq!(read, Err(io::ErrorKind::PermissionDenied));
        assert_eq!(written, Err(io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn no_capability_is_left_no_socket_can_be_made_and_no_program_started() {
        let (capabilities, socket, program) = confined(Needs::default(), |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|e| e.kind());
            let program = std::process::Command::new("/bin/true").status().map(drop).map_err(|e| e.kind());
            (rustix::thread::capabilities(None).unwrap(), socket, program)
        });
        assert!(capabilities.effective.is_empty() && capabilities.permitted.is_empty());
        assert_eq!(socket, Err(io::ErrorKind::PermissionDenied));
        assert_eq!(program, Err(io::ErrorKind::PermissionDenied));
    }

    #[test]
    fn threads_started_later_stand_behind_the_same_fence() {
        let read = confined(Needs::default(), |_| {
            std::thread::spawn(|| fs::read("/etc/hostname").map_err(|e| e.kind())).join().unwrap()
        });
        assert_eq!(read, Err(io::ErrorKind::PermissionDenied));
    }
}
