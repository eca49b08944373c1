//! Each engine runs containers in the shared machine, with PIDs of the real /proc, veths in the machine's network, and
//! names that resolve.

#![expect(clippy::expect_used, reason = "the tests' helpers fail as the tests do")]

use std::fs;
use std::path::PathBuf;

use snorkel_netns::{Netns, Pid, Process};
use snorkel_testbed::{Image, Machine};

/// The inode of a process's network namespace.
fn netns_of(pid: i32) -> u64 {
    let process = Process::open(Pid::new(pid).expect("a PID")).expect("the process is there");
    process.netns().expect("it has a network namespace").inode()
}

fn machines_netns(machine: &Machine) -> u64 {
    Netns::open(&PathBuf::from(format!("/proc/{}/ns/net", machine.pid()))).expect("it is there").inode()
}

/// What every running container must be: a process of the real /proc in a network namespace of its own, with a link
/// that the machine's network has the other end of.
fn assert_plugged_in(machine: &Machine, pid: i32) {
    let own = Netns::current().expect("it is there").inode();
    let inside = netns_of(pid);
    assert_ne!(inside, own);
    assert_ne!(inside, machines_netns(machine));
    assert!(machine.processes().contains(&pid));
    let link =
        machine.run("nsenter", ["--target", &pid.to_string(), "--net", "ip", "-o", "link", "show", "eth0"]);
    let peer = link.split_once("eth0@if").and_then(|(_, rest)| rest.split(':').next()).expect("a veth");
    let links = machine.run("ip", ["-o", "link"]);
    assert!(links.lines().any(|l| l.starts_with(&format!("{peer}: veth"))), "no peer {peer} in\n{links}");
}

#[test]
fn docker_runs_containers_that_know_each_other_by_name() {
    let machine = Machine::shared();
    let docker = machine.docker();
    docker.network_create("tb-net", &[]);
    let id = docker.run("tb-echo", &["--network", "tb-net"], Image::Bare, &["/echo", "7"]);
    docker.run("tb-tools", &["--network", "tb-net"], Image::Tools, &[]);
    assert_eq!(docker.inspect("tb-echo", "{{.Id}}"), id);
    assert_plugged_in(machine, docker.pid("tb-echo"));
    assert_plugged_in(machine, docker.pid("tb-tools"));

    let resolved = docker.exec("tb-tools", &["getent", "hosts", "tb-echo"]);
    assert!(resolved.ends_with("tb-echo"), "{resolved}");
    let address = resolved.split_whitespace().next().expect("an address");
    let pid = docker.pid("tb-tools").to_string();
    let socat = format!("echo hello | socat -t 60 - TCP:{address}:7");
    assert_eq!(machine.run("nsenter", ["--target", &pid, "--net", "sh", "-c", &socat]), "hello");

    // As on a real host, Docker's containers are containerd's too, and its socket is where one looks for it.
    assert_eq!(machine.containerd().pid("moby", &id), docker.pid("tb-echo"));
    assert!(fs::exists(machine.path("/run/docker.sock")).expect("can be asked"));

    docker.cli(&["stop", "tb-echo"]);
    assert_eq!(docker.pid("tb-echo"), 0);
    docker.remove("tb-echo");
}

#[test]
fn podman_runs_containers_and_serves_its_api() {
    let machine = Machine::shared();
    let podman = machine.podman();
    podman.network_create("tb-pnet", &[]);
    let id = podman.run("tb-pecho", &["--network", "tb-pnet"], Image::Bare, &["/echo", "7"]);
    podman.run("tb-ptools", &["--network", "tb-pnet"], Image::Tools, &[]);
    assert_plugged_in(machine, podman.pid("tb-pecho"));
    let resolved = podman.exec("tb-ptools", &["getent", "hosts", "tb-pecho"]);
    assert!(resolved.contains("tb-pecho"), "{resolved}");
    let api = machine.run(
        "curl",
        ["-sS", "--unix-socket", "/run/podman/podman.sock", "http://podman/v4.0.0/libpod/containers/json"],
    );
    assert!(api.contains(&id), "{api}");
    podman.remove("tb-pecho");
}

#[test]
fn containerd_runs_pods_with_cni() {
    let machine = Machine::shared();
    let containerd = machine.containerd();
    let pid = containerd.run_as_pod("web-0", "default", "tb-pod", Image::Busybox, &[]);
    assert_plugged_in(machine, pid);
    assert_eq!(containerd.pid("k8s.io", "tb-pod"), pid);
    let info = containerd.cli("k8s.io", &["containers", "info", "tb-pod"]);
    assert!(info.contains(r#""io.kubernetes.pod.name": "web-0""#), "{info}");
    let hosts_network = containerd.run("default", "tb-host", &["--net-host"], Image::Busybox, &[]);
    assert_eq!(netns_of(hosts_network), machines_netns(machine));
    containerd.remove("k8s.io", "tb-pod");
    containerd.remove("default", "tb-host");
    let cri = containerd.cli("k8s.io", &["plugins", "list"]);
    assert!(cri.lines().any(|l| l.contains(" cri ") && l.trim_end().ends_with("ok")), "{cri}");
}

#[test]
fn lxc_runs_containers_on_its_bridge() {
    let machine = Machine::shared();
    let lxc = machine.lxc();
    let pid = lxc.run("tb-box", "10.0.3.2", Image::Bare, "/echo 7");
    assert_plugged_in(machine, pid);
    let sockets = machine.run("cat", ["/proc/net/unix"]);
    assert!(sockets.contains("@/var/lib/lxc/tb-box/command"), "{sockets}");
    lxc.remove("tb-box");
}
