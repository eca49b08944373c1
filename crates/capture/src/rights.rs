//! Gives up what a capture does not need once its rings are open: it reads packets that strangers make.
//!
//! All capabilities (capabilities(7)), the way back to them (`PR_SET_NO_NEW_PRIVS`), writing anywhere but into the
//! output's directory (landlock(7), where the kernel has it), and all system calls but those that reading rings, writing
//! files and telling about it take (seccomp(2)); what is not allowed fails with `EPERM`.
//!
//! Without capabilities root is a user like others: whoever is to make further files in another's directory has to
//! become that user before (setresuid(2)), not after.
//!
//! It holds for the calling thread and those that it makes from then on: to be called before there are others.
//!
//! A capture that lets containers join later (`--follow`) has to open rings in namespaces that do not exist yet, and cannot
//! give up anything. Its rights could stay in a process of their own that opens sockets and passes them on; a ring's
//! memory can be mapped by whoever holds the socket.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use landlock::{ABI, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// What could be given up beside the capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// Files can be written in the output's directory only.
    pub files: bool,
    /// System calls are limited.
    pub calls: bool,
}

/// Not even the capabilities could be given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up the rights that the capture does not need")]
pub struct Error(#[source] io::Error);

/// Gives up the rights of the calling thread. `output`: the directory in which files are written, if any.
pub fn drop_all(output: Option<&Path>) -> Result<Dropped, Error> {
    let os = |e: rustix::io::Errno| Error(e.into());
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_no_new_privs(true).map_err(os)?;
    let files = confine_files(output);
    set_capabilities(None, none).map_err(os)?;
    Ok(Dropped { files, calls: limit_calls() })
}

/// Whether writing is confined now.
fn confine_files(output: Option<&Path>) -> bool {
    let writing = AccessFs::from_write(ABI::V3);
    let confine = || -> Result<RulesetStatus, Box<dyn std::error::Error>> {
        let mut rules = Ruleset::default().handle_access(writing)?.create()?;
        if let Some(output) = output {
            rules = rules.add_rule(PathBeneath::new(PathFd::new(output)?, writing))?;
        }
        Ok(rules.restrict_self()?.ruleset)
    };
    matches!(confine(), Ok(RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced))
}

/// Whether the calls are limited now.
fn limit_calls() -> bool {
    let limit = || -> Result<(), Box<dyn std::error::Error>> {
        let rules: BTreeMap<i64, Vec<_>> = CALLS.iter().map(|call| (*call, Vec::new())).collect();
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let filter =
            SeccompFilter::new(rules, refuse, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
        let program: BpfProgram = filter.try_into()?;
        Ok(seccompiler::apply_filter(&program)?)
    };
    limit().is_ok()
}

/// The calls of the reading loop, of writing and rotating files, of memory, threads, time and signals.
/// On machines of 64 bits, which is what the numbers are.
const CALLS: &[libc::c_long] = &[
    // Rings: wait, account, stop.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_bind,
    // Files.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_fallocate,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fadvise64,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_ioctl,
    libc::SYS_getdents64,
    libc::SYS_pipe2,
    libc::SYS_splice,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    // Threads.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_prctl,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_getrusage,
    // Signals, and what they wake.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_eventfd2,
    libc::SYS_tgkill,
    libc::SYS_kill,
    libc::SYS_restart_syscall,
    libc::SYS_ppoll,
    libc::SYS_getrandom,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];
