//! What the tests of the lab have in common. Each test runs in a private network namespace, which is the "host" then.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "only tests use it")]

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec};
use snorkel_lab::{Lab, LabSpec, Node, Scoped};
use snorkel_netns::{Netns, Pid, Process};

/// Runs a test where nobody else's links and sockets are.
pub(crate) fn in_private(test: impl FnOnce() + Send) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: it makes namespaces (CAP_SYS_ADMIN)"
    );
    Netns::private().unwrap().run(test).unwrap();
}

/// The specification with this crate's own holder.
pub(crate) fn held(spec: LabSpec) -> LabSpec {
    LabSpec { holder_exe: Some(PathBuf::from(env!("CARGO_BIN_EXE_snorkel-lab-holder"))), ..spec }
}

pub(crate) fn scoped(spec: LabSpec) -> Scoped {
    Scoped::up(held(spec)).unwrap()
}

/// A name that no other test's lab has.
pub(crate) fn unique(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

pub(crate) fn pid(lab: &Lab, node: &str) -> Pid {
    lab.node(node).unwrap().pid.unwrap()
}

pub(crate) fn process(lab: &Lab, node: &str) -> Process {
    Process::open(pid(lab, node)).unwrap()
}

/// Runs `work` in the network namespace of a node.
pub(crate) fn inside<T: Send>(lab: &Lab, node: &str, work: impl FnOnce() -> T + Send) -> T {
    process(lab, node).netns().unwrap().run(work).unwrap()
}

/// A symbolic link or a file's text under a node's `/proc`.
pub(crate) fn proc_link(pid: Pid, what: &str) -> String {
    fs::read_link(format!("/proc/{pid}/{what}")).unwrap().display().to_string()
}

/// Waits until a process has ended, reaped or not.
pub(crate) fn wait_for_end(process: &Process) {
    let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
    let fd = process.as_fd();
    let ended = rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ended, 1, "process {} is still there", process.pid());
}

/// Every process of a lab.
pub(crate) fn processes(lab: &Lab) -> Vec<Process> {
    lab.nodes
        .iter()
        .flat_map(|node: &Node| [node.pid, node.nested])
        .flatten()
        .map(|pid| Process::open(pid).unwrap())
        .collect()
}

/// Namespaces, kept open: the inode number of one that is gone would be given to the next lab at once.
pub(crate) struct Namespaces {
    /// As `net:[4026532285]`.
    pub(crate) names: BTreeSet<String>,
    _open: Vec<fs::File>,
}

/// The namespaces that a lab has and the host has not.
pub(crate) fn namespaces(lab: &Lab) -> Namespaces {
    let paths = |pid: &str| -> Vec<PathBuf> {
        let kinds = ["net", "mnt", "pid", "uts", "ipc"];
        kinds.iter().map(|kind| PathBuf::from(format!("/proc/{pid}/ns/{kind}"))).collect()
    };
    let name = |path: &PathBuf| fs::read_link(path).unwrap().display().to_string();
    let host: BTreeSet<String> = paths("thread-self").iter().map(name).collect();
    let (mut names, mut open) = (BTreeSet::new(), Vec::new());
    for path in processes(lab).iter().flat_map(|process| paths(&process.pid().to_string())) {
        if !host.contains(&name(&path)) && names.insert(name(&path)) {
            open.push(fs::File::open(path).unwrap());
        }
    }
    Namespaces { names, _open: open }
}

/// The namespaces that any living thread on the machine is in. What has ended and waits to be reaped, by whom the
/// machine gives orphans to, holds nothing any more but shows its PID namespace still.
pub(crate) fn inhabited() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        for thread in fs::read_dir(process.path().join("task")).into_iter().flatten().flatten() {
            let spaces = fs::read_dir(thread.path().join("ns")).into_iter().flatten().flatten();
            let links: Vec<String> = spaces
                .filter_map(|space| Some(fs::read_link(space.path()).ok()?.display().to_string()))
                .collect();
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            if !matches!(state, None | Some('Z' | 'X')) {
                all.extend(links);
            }
        }
    }
    all
}

/// The table of unix sockets of this thread's namespace.
pub(crate) fn unix_sockets() -> String {
    fs::read_to_string("/proc/thread-self/net/unix").unwrap()
}

/// Nothing of the lab, whose namespaces these were, may be left.
pub(crate) fn assert_nothing_left(name: &str, namespaces: &Namespaces) {
    let left: Vec<_> = inhabited().intersection(&namespaces.names).cloned().collect();
    assert!(left.is_empty(), "somebody is still in {left:?}");
    assert!(!unix_sockets().contains(&format!("@snorkel-lab/{name}\n")), "the socket is still there");
    assert_host_untouched();
}

/// What a lab must never do to the host, also while it is up.
pub(crate) fn assert_host_untouched() {
    let mut socket = snorkel_rtnl::Socket::open().unwrap();
    let links: Vec<String> = socket.links(None).unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(links, ["lo"], "a link was made on the host");
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains("snorkel-lab"), "something was mounted on the host:\n{mounts}");
}
