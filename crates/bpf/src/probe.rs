//! What of bpf this kernel and these rights allow, each by trying.
//!
//! No probe leaves anything: programs and links are descriptors that are closed before the probe returns, and what is
//! attached is attached in a private network namespace. Nothing of the host's own interfaces or namespaces is touched.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use snorkel_netns::Netns;

use crate::btf::{Btf, BtfError, Kind, VMLINUX};
use crate::sys::{self, Numbered, Target};

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It works here.
    Yes,
    /// The kernel does not have it; why that is known.
    No(String),
    /// It could not be asked, for want of rights or because something else failed first; why.
    Unknown(String),
}

/// The program types that are tried, by their numbers in linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum ProgType {
    /// Traffic control: tcx and clsact.
    SchedCls = 3,
    /// A tracepoint's arguments as they are.
    RawTracepoint = 17,
    /// Which socket gets a new connection.
    SkLookup = 30,
}

/// `BPF_TRACE_RAW_TP`, `BPF_SK_LOOKUP`, `BPF_TCX_INGRESS` of `enum bpf_attach_type` in linux/bpf.h.
const TRACE_RAW_TP: u32 = 23;
const SK_LOOKUP: u32 = 36;
const TCX_INGRESS: u32 = 46;
/// `BPF_PROG_TYPE_TRACING`: always attached to something that BTF names, so it is no [`ProgType`] of its own.
const TRACING: u32 = 26;
/// The loopback interface's index: 1 in every namespace, for it is made first.
const LOOPBACK: u32 = 1;
/// `ENOTSUPP` of the kernel's include/linux/errno.h: not meant for user space, and seen there all the same.
const ENOTSUPP: i32 = 524;

/// Whether a traffic control program can be attached by a tcx link (since 6.6), to the loopback of a private namespace.
pub fn tcx() -> Answer {
    let program = match load(ProgType::SchedCls) {
        Ok(program) => program,
        Err(e) => return refused(&e, "load a traffic control program", "no traffic control programs"),
    };
    in_private(|_| {
        let link = sys::link(program.as_fd(), Target::Interface(LOOPBACK), TCX_INGRESS);
        answer(link, "attach a tcx link", "the kernel has no tcx (since 6.6, CONFIG_NET_XGRESS)")
    })
}

/// Whether a program can choose the socket of a new connection (since 5.9), in a private namespace.
pub fn sk_lookup() -> Answer {
    let program = match load(ProgType::SkLookup) {
        Ok(program) => program,
        Err(e) => return refused(&e, "load an sk_lookup program", "the kernel has no sk_lookup (since 5.9)"),
    };
    in_private(|netns| {
        let link = sys::link(program.as_fd(), Target::Namespace(netns.as_fd()), SK_LOOKUP);
        answer(link, "attach an sk_lookup link", "the kernel links no sk_lookup program to a namespace")
    })
}

/// Whether programs can be attached to raw tracepoints.
///
/// Tracepoints are the whole machine's, so nothing is attached: a tracepoint of a name that no kernel has is asked
/// for, and a kernel that has the interface says that there is none (ENOENT).
pub fn raw_tracepoint() -> Answer {
    let no = "the kernel has no raw tracepoints (CONFIG_BPF_EVENTS)";
    let program = match load(ProgType::RawTracepoint) {
        Ok(program) => program,
        Err(e) => return refused(&e, "load a raw tracepoint program", no),
    };
    match sys::raw_tracepoint(program.as_fd(), c"snorkel_no_such_tracepoint") {
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Answer::Yes,
        other => answer(other, "ask for a raw tracepoint", no),
    }
}

/// Whether a program may read the typed arguments of a tracepoint (tp_btf), for example `kfree_skb`.
///
/// The program is loaded for it, which makes the verifier look the tracepoint up, and not attached.
pub fn tp_btf(tracepoint: &str) -> Answer {
    let btf = match kernel_btf() {
        Ok(btf) => btf,
        Err(answer) => return answer,
    };
    let Some(id) = btf.find(Kind::Typedef, &format!("btf_trace_{tracepoint}")) else {
        return Answer::No(format!("the kernel's type information has no tracepoint {tracepoint}"));
    };
    let loaded = with_memlock_if_refused(|| sys::load(TRACING, TRACE_RAW_TP, id.get(), 0));
    answer(loaded, "load a tp_btf program", "the kernel takes no tp_btf programs")
}

/// Whether the kernel's type information (BTF) is there, readable and well-formed.
pub fn btf() -> Answer {
    match kernel_btf() {
        Ok(_) => Answer::Yes,
        Err(answer) => answer,
    }
}

/// Whether the kernel's type information names this type; for example the enum `skb_drop_reason`.
pub fn btf_type(kind: Kind, name: &str) -> Answer {
    match kernel_btf() {
        Ok(btf) if btf.find(kind, name).is_some() => Answer::Yes,
        Ok(_) => Answer::No(format!("the kernel's type information has no {name}")),
        Err(answer) => answer,
    }
}

/// Whether users without any capability may load programs (`kernel.unprivileged_bpf_disabled`).
pub fn unprivileged() -> Answer {
    const SYSCTL: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
    match std::fs::read_to_string(SYSCTL) {
        Ok(value) => match value.trim() {
            "0" => Answer::Yes,
            "1" => Answer::No("kernel.unprivileged_bpf_disabled is 1, until the machine boots".into()),
            other => Answer::No(format!("kernel.unprivileged_bpf_disabled is {}", other.escape_default())),
        },
        Err(e) => Answer::Unknown(format!("cannot read {SYSCTL}: {e}")),
    }
}

/// The ids of all bpf links of the machine; needs CAP_SYS_ADMIN.
pub fn links() -> io::Result<Vec<u32>> {
    ids(Numbered::Link)
}

/// The ids of all bpf programs of the machine; needs CAP_SYS_ADMIN.
pub fn programs() -> io::Result<Vec<u32>> {
    ids(Numbered::Program)
}

/// The ids of all bpf maps of the machine; needs CAP_SYS_ADMIN.
pub fn maps() -> io::Result<Vec<u32>> {
    ids(Numbered::Map)
}

fn ids(kind: Numbered) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    while let Some(id) = sys::next_id(kind, found.last().copied().unwrap_or(0))? {
        found.push(id);
    }
    Ok(found)
}

fn load(kind: ProgType) -> io::Result<OwnedFd> {
    let (attach_type, result) = match kind {
        // sk_lookup names its place when it is loaded, and may return 0 or 1 only: 1 lets the connection pass.
        ProgType::SkLookup => (SK_LOOKUP, 1),
        _ => (0, 0),
    };
    with_memlock_if_refused(|| sys::load(kind as u32, attach_type, 0, result))
}

/// Tries once more with more locked memory if the kernel refused.
fn with_memlock_if_refused<T>(load: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match load() {
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => sys::with_memlock(load),
        other => other,
    }
}

/// The kernel's type information, or the answer that there is none.
fn kernel_btf() -> Result<Btf, Answer> {
    Btf::kernel().map_err(|e| match e {
        BtfError::Read(e) if e.kind() == io::ErrorKind::NotFound => {
            Answer::No(format!("there is no {VMLINUX} (CONFIG_DEBUG_INFO_BTF)"))
        }
        BtfError::Read(e) => Answer::Unknown(format!("cannot read {VMLINUX}: {e}")),
        e @ BtfError::Malformed(_) => Answer::No(e.to_string()),
    })
}

/// Asks inside a network namespace that is made for the question.
fn in_private(ask: impl FnOnce(&Netns) -> Answer + Send) -> Answer {
    let unknown = |e| Answer::Unknown(snorkel_netns::chain(&e));
    match Netns::private() {
        Ok(netns) => netns.run(|| ask(&netns)).unwrap_or_else(unknown),
        Err(e) => unknown(e),
    }
}

fn answer<T>(tried: io::Result<T>, what: &str, no: &str) -> Answer {
    match tried {
        Ok(_) => Answer::Yes,
        Err(e) => refused(&e, what, no),
    }
}

/// Tells "there is no such thing" from "not for you" and from the rest.
fn refused(error: &io::Error, what: &str, no: &str) -> Answer {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => Answer::No("the kernel has no bpf system call".into()),
        // E2BIG: the kernel's attributes end before a field that we set, so it cannot know what is meant.
        Some(libc::EINVAL | libc::E2BIG | libc::EOPNOTSUPP | ENOTSUPP) => Answer::No(no.to_owned()),
        Some(libc::EPERM | libc::EACCES) => Answer::Unknown(format!("not allowed to {what}: {error}")),
        _ => Answer::Unknown(format!("cannot {what}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<(&'static str, Answer)> {
        vec![
            ("tcx", tcx()),
            ("sk_lookup", sk_lookup()),
            ("raw tracepoint", raw_tracepoint()),
            ("tp_btf", tp_btf("kfree_skb")),
            ("btf", btf()),
            ("drop reasons", btf_type(Kind::Enum, "skb_drop_reason")),
            ("unprivileged", unprivileged()),
        ]
    }

    fn need_root() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        assert_eq!(uid.split_whitespace().nth(1), Some("0"), "this test needs root");
    }

    #[test]
    fn root_gets_no_unknown_answer_and_no_link_stays() {
        need_root();
        let before = links().unwrap();
        let answers = all();
        for (what, answer) in &answers {
            assert!(!matches!(answer, Answer::Unknown(_)), "{what}: {answer:?}");
        }
        // A closed link is taken down by the kernel's worker on some kernels: ask until it is, but not for ever.
        let ours = |after: Vec<u32>| after.into_iter().filter(|id| !before.contains(id)).collect::<Vec<_>>();
        let gone = (0..100_000).any(|_| {
            std::thread::yield_now();
            ours(links().unwrap()).is_empty()
        });
        assert!(gone, "links of a probe stayed: {:?} of {answers:?}", ours(links().unwrap()));
    }

    #[test]
    fn a_tracepoint_that_no_kernel_has_is_not_there() {
        assert!(!matches!(tp_btf("snorkel_no_such_tracepoint"), Answer::Yes));
        assert!(!matches!(btf_type(Kind::Struct, "snorkel_no_such_struct"), Answer::Yes));
    }

    #[test]
    fn a_refusal_for_want_of_rights_is_not_a_no() {
        let says = |code| refused(&io::Error::from_raw_os_error(code), "try", "it is not there");
        assert!(matches!(says(libc::EPERM), Answer::Unknown(_)));
        assert!(matches!(says(libc::ENOMEM), Answer::Unknown(_)));
        assert_eq!(says(libc::EINVAL), Answer::No("it is not there".into()));
    }

    #[test]
    fn a_user_without_rights_gets_answers_too() {
        need_root();
        // One thread becomes nobody: the raw system calls change its credentials only, and it ends with the test.
        let answers = std::thread::spawn(|| {
            const NOBODY: libc::c_long = 65534;
            // SAFETY: these calls take numbers and a null list; they touch no memory, and only this thread.
            let done = unsafe {
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) == 0
                    && libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY) == 0
                    && libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) == 0
            };
            assert!(done, "cannot become nobody: {}", io::Error::last_os_error());
            all()
        })
        .join()
        .unwrap();
        let tcx = answers.iter().find(|(what, _)| *what == "tcx").unwrap();
        assert!(matches!(&tcx.1, Answer::Unknown(why) if !why.is_empty()), "{tcx:?}");
    }
}
