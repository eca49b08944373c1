//! The machine itself: what it keeps apart from the real one, and that nothing of it stays, however it ends.

#![expect(clippy::expect_used, reason = "the tests' helpers fail as the tests do")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use snorkel_testbed::{Image, Machine, finish, succeed};

/// A process that cannot be mistaken for a later one with the same PID: the PID and the time of its start.
type Born = (i32, String);

/// The fields of /proc/PID/stat behind the name (proc_pid_stat(5)): state is 0, parent 1, start time 19.
fn stat(pid: i32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(line.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn born(pid: i32) -> Option<Born> {
    Some((pid, stat(pid)?.get(19)?.clone()))
}

/// Whether it still runs; a zombie that waits for init does not.
fn runs((pid, start): &Born) -> bool {
    stat(*pid).is_some_and(|s| s[19] == *start && s[0] != "Z" && s[0] != "X")
}

/// The network and mount namespaces that processes of the real machine are in, each with one such process.
fn namespaces_in_use() -> BTreeMap<PathBuf, PathBuf> {
    let processes = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let links = processes.flat_map(|p| ["ns/net", "ns/mnt"].map(|n| p.path().join(n)));
    links.filter_map(|l| Some((fs::read_link(&l).ok()?, l))).collect()
}

/// What an engine could change on the machine that it runs on.
///
/// Asked of a machine in which another one is made: on the real one others may be at work meanwhile.
fn state_of(machine: &Machine) -> String {
    let script = "cat /proc/self/mountinfo; ls -1R /run; ls -1 /etc /var/lib; ip -o link; ip -o address; \
                  ip route show table all; ip rule; iptables-save | sed 's/\\[.*//; /^#/d'; cat /etc/resolv.conf; \
                  cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/hostname; find /sys/fs/cgroup -type d";
    machine.run("sh", ["-c", script])
}

/// Panics with the lines that only one of the two states has.
#[track_caller]
fn assert_same(now: &str, before: &str) {
    let (now, before): (BTreeSet<&str>, BTreeSet<&str>) = (now.lines().collect(), before.lines().collect());
    let (new, lost): (Vec<_>, Vec<_>) =
        (now.difference(&before).collect(), before.difference(&now).collect());
    assert!(new.is_empty() && lost.is_empty(), "new: {new:#?}\nlost: {lost:#?}");
}

/// All that a machine consists of, noted while it lives.
struct Parts {
    processes: Vec<Born>,
    /// Held open, so that no new namespace gets the number of one that is gone.
    namespaces: BTreeMap<PathBuf, File>,
    places: Vec<PathBuf>,
}

impl Parts {
    /// `host` is the PID of a process of the machine on which the noted one was made: its namespaces are none of it.
    fn of(host: i32, processes: &[i32], places: Vec<PathBuf>) -> Parts {
        let links = processes.iter().flat_map(|p| ["net", "mnt"].map(|n| format!("/proc/{p}/ns/{n}")));
        let mut namespaces: BTreeMap<PathBuf, File> =
            links.filter_map(|l| Some((fs::read_link(&l).ok()?, File::open(&l).ok()?))).collect();
        for name in ["net", "mnt"] {
            namespaces
                .remove(&fs::read_link(format!("/proc/{host}/ns/{name}")).expect("the host's namespace"));
        }
        Parts { processes: processes.iter().filter_map(|p| born(*p)).collect(), namespaces, places }
    }

    #[track_caller]
    fn assert_gone(&self) {
        let running: Vec<&Born> = self.processes.iter().filter(|p| runs(p)).collect();
        assert!(running.is_empty(), "still running: {running:?}");
        let used = namespaces_in_use();
        let kept: Vec<_> =
            used.iter().filter(|(namespace, _)| self.namespaces.contains_key(*namespace)).collect();
        assert!(kept.is_empty(), "still in use: {kept:?}");
        for place in &self.places {
            assert!(!place.exists(), "{} is still there", place.display());
        }
    }
}

#[test]
fn what_is_done_on_a_machine_does_not_reach_another_one() {
    let other = Machine::new();
    let before = state_of(&other);
    let machine = Machine::new();
    machine.netns_add("blue");
    machine.run("ip", ["link", "add", "tb-veth0", "type", "veth", "peer", "tb-veth1"]);
    machine.run("iptables", ["-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP"]);
    machine.run("sh", ["-c", "echo changed >/etc/resolv.conf; echo x >/run/x; hostname elsewhere"]);
    machine.run("sh", ["-c", "mount -t tmpfs none /mnt; echo 1 >/proc/sys/net/ipv4/ip_forward"]);
    assert_same(&state_of(&other), &before);

    assert_eq!(machine.run("ip", ["netns", "list"]), "blue");
    assert_eq!(machine.run("cat", ["/etc/resolv.conf"]), "changed");
    assert_eq!(fs::read_to_string(machine.path("/run/x")).expect("the machine's file"), "x\n");
    assert!(machine.run("ls", ["/sys/class/net"]).contains("tb-veth0"));
    assert!(!Path::new("/sys/class/net/tb-veth0").exists());
    assert!(!Path::new("/run/netns/blue").exists());
    assert_ne!(fs::read_to_string("/etc/resolv.conf").expect("the real machine's"), "changed\n");
}

#[test]
fn names_that_nobody_knows_are_denied_and_one_is_answered() {
    let machine = Machine::new();
    let resolved = machine.run("getent", ["hosts", "resolver.testbed.invalid"]);
    assert_eq!(resolved.split_whitespace().next(), Some("192.0.2.53"));
    assert_eq!(finish(machine.command("getent").args(["hosts", "other.testbed.invalid"])).status, Some(2));
}

#[test]
fn a_command_runs_in_the_directory_and_with_the_status_that_it_should() {
    let machine = Machine::new();
    assert_eq!(machine.run("pwd", [""; 0]), "/");
    assert_eq!(succeed(machine.command_in("/run", "pwd").env("PWD", "")), "/run");
    let failed = finish(machine.command("sh").args(["-c", "echo out; echo err >&2; exit 7"]));
    assert_eq!((failed.status, &*failed.stdout, &*failed.stderr), (Some(7), "out\n", "err\n"));
}

#[test]
fn nothing_stays_of_a_machine_with_all_engines() {
    let machine = Machine::new();
    let docker = machine.docker();
    docker.network_create("n", &[]);
    docker.run("running", &["--network", "n", "--publish", "8080:7"], Image::Bare, &["/echo", "7"]);
    docker.run("paused", &[], Image::Busybox, &[]);
    docker.cli(&["pause", "paused"]);
    let podman = machine.podman();
    podman.network_create("n", &[]);
    podman.run("running", &["--network", "n"], Image::Bare, &["/echo", "7"]);
    machine.containerd().run_as_pod("web-0", "default", "running", Image::Busybox, &[]);
    machine.lxc().run("running", "10.0.3.2", Image::Bare, "/echo");
    machine.netns_add("blue");
    // A process that left its session, its parent and the machine's namespaces, as a daemon may.
    machine.run("sh", ["-c", "setsid unshare --net --mount sleep 2147483647 >/dev/null 2>&1 &"]);

    let processes = machine.processes();
    assert!(processes.contains(&docker.pid("running")));
    assert!(processes.contains(&docker.pid("paused")));
    assert!(processes.contains(&podman.pid("running")));
    let mut places = machine.cgroups().to_vec();
    places.push(machine.directory().to_owned());
    for pid in &processes {
        for name in ["net", "mnt"] {
            let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a namespace");
            assert_ne!(link(&pid.to_string()), link("self"), "{pid} is in a namespace of the real machine");
        }
    }
    let parts = Parts::of(std::process::id().cast_signed(), &processes, places);
    assert!(parts.namespaces.len() > 10, "{:?}", parts.namespaces);

    drop(machine);
    parts.assert_gone();
}

/// Starts a machine with Docker and Podman on the machine `host`, whose owner waits until it is killed; gives the owner
/// and the directory and the PID of the inner machine.
fn start_inner(host: &Machine) -> (Child, PathBuf, i32) {
    let mut owner = host
        .command(env!("CARGO_BIN_EXE_testbed"))
        .args(["docker", "podman", "--"])
        .args(["sh", "-c", "echo $TESTBED_PID $TESTBED_DIRECTORY; exec sleep 2147483647"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the testbed starts");
    let mut line = String::new();
    BufReader::new(owner.stdout.take().expect("a pipe")).read_line(&mut line).expect("it says what it made");
    let (holder, directory) = line.trim().split_once(' ').expect("two words");
    (owner, directory.into(), holder.parse().expect("a PID"))
}

#[test]
fn nothing_stays_of_a_machine_whose_owner_was_killed() {
    let host = Machine::new();
    let before = state_of(&host);
    let outer = host.processes();
    let (mut owner, directory, holder) = start_inner(&host);
    let inner: Vec<i32> = host.processes().into_iter().filter(|pid| !outer.contains(pid)).collect();
    assert!(inner.contains(&holder));
    let supervisor: i32 = stat(holder).expect("it runs")[1].parse().expect("its parent's PID");
    assert!(inner.contains(&supervisor));
    let parts = Parts::of(host.pid(), &inner, vec![directory]);
    assert!(parts.processes.len() > 6, "{:?}", parts.processes);

    let supervisor = Pid::from_raw(supervisor).expect("not zero");
    let supervisor = pidfd_open(supervisor, PidfdFlags::empty()).expect("the supervisor runs");
    owner.kill().expect("it can be killed");
    owner.wait().expect("it was killed");
    poll(&mut [PollFd::new(&supervisor, PollFlags::IN)], None).expect("the supervisor ends");

    parts.assert_gone();
    assert_same(&state_of(&host), &before);
    assert_eq!(host.processes(), outer);
}

#[test]
fn nothing_changes_on_the_machine_that_another_one_was_made_on() {
    let host = Machine::new();
    let before = state_of(&host);
    succeed(host.command(env!("CARGO_BIN_EXE_testbed")).args([
        "docker",
        "podman",
        "containerd",
        "--",
        "true",
    ]));
    assert_same(&state_of(&host), &before);
}
