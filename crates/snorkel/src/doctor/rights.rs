//! What this process may do, and what stands above it: namespaces it was put into, security modules, settings of the
//! machine. All of it is read, nothing is changed.

use std::fs;
use std::io;

use snorkel_bpf::probe::{self, Answer};

use super::status::Status;
use super::trial::short;
use super::{Finding, Verdict, capabilities};

/// Looks at everything.
pub(super) fn examine(status: &Status) -> Vec<Finding> {
    let mut findings = vec![user(status)];
    findings.extend(capabilities::examine(status));
    findings.extend([
        user_namespace(),
        pid_namespace(),
        other_processes(),
        no_new_privileges(status),
        seccomp_mode(status),
        security_modules(),
        lockdown(),
        ptrace_scope(),
        rootless(),
        unprivileged_bpf(),
    ]);
    findings
}

/// Reads a small file and trims it.
fn read(path: &str) -> io::Result<String> {
    fs::read(path).map(|bytes| {
        let text = String::from_utf8_lossy(&bytes);
        text.trim_end_matches(['\n', '\0', ' ']).to_owned()
    })
}

/// What keeps a file from being read, in a few words.
fn unreadable(path: &str, error: &io::Error) -> String {
    format!("{path}: {}", short(&error.to_string()))
}

fn user(status: &Status) -> Finding {
    let found = match (status.uid, std::env::var_os("SUDO_USER"), std::env::var_os("SUDO_UID")) {
        (Some(0), Some(name), Some(uid)) => {
            format!("root, through sudo by {} (uid {})", name.to_string_lossy(), uid.to_string_lossy())
        }
        (Some(0), ..) => "root".to_owned(),
        (Some(uid), ..) => format!("uid {uid}, not root"),
        (None, ..) => "not known: /proc does not say".to_owned(),
    };
    // Not a verdict of its own: what a user may do is said capability by capability.
    Finding::of_rights("user", "user", Verdict::Ok, &found, "", "")
}

fn user_namespace() -> Finding {
    const MAP: &str = "/proc/thread-self/uid_map";
    let of = |verdict, found: &str| {
        Finding::of_rights(
            "user-namespace",
            "user namespace",
            verdict,
            found,
            "rights end at this user namespace: containers made outside it cannot be entered",
            "run snorkel on the host, outside of any container or rootless session",
        )
    };
    match read(MAP) {
        Ok(map) if is_whole(&map) => of(Verdict::Ok, "the machine's first: rights are the machine's"),
        Ok(_) => of(Verdict::Degraded, "one of its own: user ids are mapped"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => of(Verdict::Ok, "the kernel has none"),
        Err(e) => of(Verdict::Unknown, &unreadable(MAP, &e)),
    }
}

/// Whether a uid_map maps every id to itself, as that of the first user namespace does (user_namespaces(7)).
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn pid_namespace() -> Finding {
    // PROC_PID_INIT_INO of the kernel's include/linux/proc_ns.h: the number never changes.
    const FIRST: &str = "pid:[4026531836]";
    const LINK: &str = "/proc/thread-self/ns/pid";
    let of = |verdict, found: &str| {
        Finding::of_rights(
            "pid-namespace",
            "pid namespace",
            verdict,
            found,
            "processes outside are not seen, and an engine's PIDs mean other processes here",
            "run snorkel on the host; in a container: with the host's pid namespace (--pid host)",
        )
    };
    match fs::read_link(LINK) {
        Ok(link) if link.as_os_str() == FIRST => {
            of(Verdict::Ok, "the machine's first: all processes are seen")
        }
        Ok(link) => of(Verdict::Degraded, &format!("one of its own, {}", link.display())),
        Err(e) => of(Verdict::Unknown, &unreadable(LINK, &e)),
    }
}

fn other_processes() -> Finding {
    let of = |verdict, found: &str| {
        Finding::of_rights(
            "other-processes",
            "others' namespaces",
            verdict,
            found,
            "the network namespaces of these processes are not found through them",
            "run as root with CAP_SYS_PTRACE; a security module may refuse it even so",
        )
    };
    let entries = match fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(e) => return of(Verdict::Unknown, &unreadable("/proc", &e)),
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let (mut seen, mut refused) = (0, Vec::new());
    for pid in pids {
        match fs::read_link(format!("/proc/{pid}/ns/net")) {
            Ok(_) => seen += 1,
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => refused.push(pid),
            // It ended meanwhile.
            Err(_) => (),
        }
    }
    match refused.iter().min() {
        None => of(Verdict::Ok, &format!("readable for all of {seen} processes")),
        Some(pid) => of(
            Verdict::Degraded,
            &format!(
                "refused for {} of {} processes, such as PID {pid}",
                refused.len(),
                seen + refused.len()
            ),
        ),
    }
}

fn no_new_privileges(status: &Status) -> Finding {
    let of = |verdict, found: &str| {
        Finding::of_rights(
            "no-new-privs",
            "no_new_privs",
            verdict,
            found,
            "sudo and ping with file capabilities gain nothing inside `snorkel exec`",
            "start snorkel where the flag is not set (systemd: NoNewPrivileges=no)",
        )
    };
    match status.no_new_privs {
        Some(false) => of(Verdict::Ok, "not set"),
        Some(true) => of(Verdict::Degraded, "set"),
        None => of(Verdict::Unknown, "/proc does not say"),
    }
}

fn seccomp_mode(status: &Status) -> Finding {
    let of = |verdict, found: &str| {
        Finding::of_rights(
            "seccomp-mode",
            "seccomp",
            verdict,
            found,
            "the filter may refuse setns, mount, bpf or netlink; what it does refuse is shown below",
            "start snorkel outside of it (container: --security-opt seccomp=unconfined)",
        )
    };
    match status.seccomp {
        Some(0) => of(Verdict::Ok, "no filter on this process"),
        Some(mode) => of(Verdict::Degraded, &format!("this process runs under a filter (mode {mode})")),
        None => of(Verdict::Ok, "the kernel has none"),
    }
}

fn security_modules() -> Finding {
    const LIST: &str = "/sys/kernel/security/lsm";
    let of = |verdict, found: &str| {
        Finding::of_rights(
            "security-modules",
            "security modules",
            verdict,
            found,
            "a profile may refuse mount, setns or bpf",
            "start snorkel without the profile (container: --security-opt apparmor=unconfined)",
        )
    };
    let list = match read(LIST) {
        Ok(list) => list,
        Err(e) if e.kind() == io::ErrorKind::NotFound => "not listed (securityfs is not mounted)".into(),
        Err(e) => unreadable(LIST, &e),
    };
    match read("/proc/thread-self/attr/current") {
        Ok(label) if confines(&label) => of(Verdict::Degraded, &format!("{list}; this process is {label}")),
        Ok(label) if !label.is_empty() => of(Verdict::Ok, &format!("{list}; this process is {label}")),
        // No module that labels processes.
        _ => of(Verdict::Ok, &list),
    }
}

/// Whether a label is one that holds a process in: an AppArmor profile in force, or SELinux's type for containers.
fn confines(label: &str) -> bool {
    label.ends_with("(enforce)") || label.split(':').nth(2) == Some("container_t")
}

fn lockdown() -> Finding {
    const FILE: &str = "/sys/kernel/security/lockdown";
    let of = |verdict, found: &str| {
        Finding::of_rights(
            "lockdown",
            "lockdown",
            verdict,
            found,
            "bpf may not read the kernel's memory: dropped packets cannot be traced",
            "boot with lockdown=integrity, or without lockdown",
        )
    };
    match read(FILE) {
        Ok(modes) => match chosen(&modes) {
            Some("confidentiality") => of(Verdict::Degraded, "confidentiality"),
            Some(mode) => of(Verdict::Ok, mode),
            None => of(Verdict::Unknown, "no mode is marked as chosen"),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => of(Verdict::Ok, "not shown by the kernel"),
        Err(e) => of(Verdict::Unknown, &unreadable(FILE, &e)),
    }
}

/// The mode in brackets, of `none [integrity] confidentiality`.
fn chosen(modes: &str) -> Option<&str> {
    modes.split_whitespace().find_map(|mode| mode.strip_prefix('[')?.strip_suffix(']'))
}

fn ptrace_scope() -> Finding {
    const FILE: &str = "/proc/sys/kernel/yama/ptrace_scope";
    // Yama stands before attaching only; snorkel reads, and attaches to nothing (ptrace(2), PTRACE_MODE_READ).
    let found = match read(FILE) {
        Ok(scope) => format!("ptrace_scope {scope}; snorkel attaches to no process"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => "not in this kernel".into(),
        Err(e) => unreadable(FILE, &e),
    };
    Finding::of_rights("yama", "yama", Verdict::Ok, &found, "", "")
}

fn rootless() -> Finding {
    const FILE: &str = "/proc/sys/user/max_user_namespaces";
    let of = |verdict, found: &str| {
        Finding::of_rights(
            "user-namespaces",
            "more user namespaces",
            verdict,
            found,
            "nothing of snorkel's own: rootless engines cannot run containers here",
            "sysctl user.max_user_namespaces=16384",
        )
    };
    match read(FILE) {
        Ok(most) if most == "0" => of(Verdict::Absent, "user.max_user_namespaces is 0"),
        Ok(most) => of(Verdict::Ok, &format!("up to {most}")),
        Err(e) if e.kind() == io::ErrorKind::NotFound => of(Verdict::Absent, "the kernel has none"),
        Err(e) => of(Verdict::Unknown, &unreadable(FILE, &e)),
    }
}

fn unprivileged_bpf() -> Finding {
    let found = match probe::unprivileged() {
        Answer::Yes => "any user may load programs".to_owned(),
        Answer::No(why) | Answer::Unknown(why) => format!("only with CAP_BPF: {}", short(&why)),
    };
    // As it should be either way: snorkel's own programs are loaded with CAP_BPF.
    Finding::of_rights("unprivileged-bpf", "bpf of other users", Verdict::Ok, &found, "", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_map_of_the_first_user_namespace_is_whole() {
        assert!(is_whole("         0          0 4294967295\n"));
        assert!(!is_whole("0 100000 65536\n"));
        assert!(!is_whole("0 0 4294967294\n"));
        assert!(!is_whole(""));
    }

    #[test]
    fn the_mode_of_lockdown_is_the_one_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality"), Some("integrity"));
        assert_eq!(chosen("[none] integrity confidentiality"), Some("none"));
        assert_eq!(chosen("none integrity"), None);
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn a_profile_confines_and_an_unconfined_label_does_not() {
        assert!(confines("docker-default (enforce)"));
        assert!(confines("system_u:system_r:container_t:s0:c1,c2"));
        assert!(!confines("unconfined"));
        assert!(!confines("unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023"));
    }
}
