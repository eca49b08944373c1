//! The network namespaces that processes are in, found through /proc (proc_pid_ns(5)).
//!
//! A namespace is kept alive by processes, by mounts and by open descriptors. The first two are found here and through
//! the mount table; one that only a descriptor holds has no name by which anybody could mean it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use snorkel_netns::Pid;

/// Every network namespace that a process is in.
#[derive(Debug, Default)]
pub(crate) struct Inhabited {
    /// By inode number the processes in it, lowest number first: as a rule the first that was there.
    pub(crate) namespaces: BTreeMap<u64, Vec<Pid>>,
    /// Processes whose namespace may not be read without more rights.
    pub(crate) denied: usize,
}

impl Inhabited {
    /// The processes in the namespace of this inode.
    pub(crate) fn in_namespace(&self, inode: u64) -> &[Pid] {
        self.namespaces.get(&inode).map_or(&[], Vec::as_slice)
    }
}

/// Looks at every process once.
pub(crate) fn scan() -> Inhabited {
    let mut found = Inhabited::default();
    let Ok(proc) =
        rustix::fs::openat(CWD, "/proc", OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    else {
        return found;
    };
    let Ok(entries) = rustix::fs::Dir::read_from(&proc) else { return found };
    let mut pids: Vec<Pid> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str().ok()?.parse().ok().and_then(Pid::new))
        .collect();
    pids.sort_unstable();
    for pid in pids {
        match rustix::fs::readlinkat(&proc, format!("{pid}/ns/net"), Vec::with_capacity(32)) {
            Ok(target) => {
                if let Some(inode) = inode_of(target.as_bytes()) {
                    found.namespaces.entry(inode).or_default().push(pid);
                }
            }
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => found.denied += 1,
            // It ended meanwhile, or is a kernel thread that is going.
            Err(_) => {}
        }
    }
    found
}

/// The inode number in `net:[4026531840]`.
pub(crate) fn inode_of(target: &[u8]) -> Option<u64> {
    let number = target.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// What a process that no engine owns is called: the last part of its cgroup if that says something, else its command.
pub(crate) fn name_of(pid: Pid) -> Option<String> {
    let cgroup = fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    unit(&String::from_utf8_lossy(&cgroup)).or_else(|| command_of(pid))
}

/// The command name of a process, at most 15 bytes (proc_pid_comm(5)).
pub(crate) fn command_of(pid: Pid) -> Option<String> {
    let comm = fs::read(format!("/proc/{pid}/comm")).ok()?;
    let name = String::from_utf8_lossy(&comm).trim_end_matches('\n').to_owned();
    // One that started itself anew by /proc/self/exe (rootlesskit does) is called after that link.
    let itself = || {
        let program = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(program.file_name()?.to_string_lossy().into_owned())
    };
    if name == "exe" { itself().or(Some(name)) } else { Some(name) }
}

/// The service or scope unit that a cgroup file names; a user's or login session's says nothing about the process.
fn unit(cgroup: &str) -> Option<String> {
    let leaf = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(|path| {
        Path::new(path).components().rev().find_map(|part| {
            let part = part.as_os_str().to_str()?;
            part.ends_with(".service").then_some(part)
        })
    })?;
    (!leaf.starts_with("user@")).then(|| leaf.trim_end_matches(".service").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_own_process_is_found_in_its_namespace() {
        let own = snorkel_netns::Netns::current().unwrap();
        assert!(scan().in_namespace(own.inode()).contains(&Pid::own()));
    }

    #[test]
    fn a_process_that_started_itself_anew_is_called_after_its_program() {
        let dir = tempfile::tempdir().unwrap();
        let (program, link) = (fs::canonicalize("/bin/sleep").unwrap(), dir.path().join("exe"));
        std::os::unix::fs::symlink(&program, &link).unwrap();
        // The call returns when the program has been started.
        let mut child = std::process::Command::new(link).arg("10000").spawn().unwrap();
        let name = command_of(Pid::new(child.id() as i32).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(name, program.file_name().map(|name| name.to_string_lossy().into_owned()));
    }

    #[test]
    fn a_service_gives_its_name_and_a_login_session_does_not() {
        assert_eq!(unit("0::/system.slice/dnsmasq.service\n").as_deref(), Some("dnsmasq"));
        assert_eq!(unit("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n"), None);
        assert_eq!(unit("1:cpu:/\n0::/\n"), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes: Vec<u8>, text: String) {
            inode_of(&bytes);
            unit(&text);
        }
    }
}
