//! Faults of Docker's containers: one starts again, one goes away, the engine itself starts again.

use std::process::{Child, Command, Stdio};

use snorkel_testbed::{Docker, Image, Machine, finish};

use crate::common::{Ran, SNORKEL, wait_until};
use crate::kit::{Held, bpf_links, least_round_trip, signal};

/// More than any round trip on a machine, and less than the delays here.
const LATE: f64 = 100.0;
const DELAY: [&str; 2] = ["--delay", "150ms"];

#[track_caller]
fn ran(machine: &Machine, words: &[&str]) -> Ran {
    let ran = finish(machine.command(SNORKEL).args(words));
    Ran { stdout: ran.stdout, stderr: ran.stderr, status: ran.status.unwrap_or(-1) }
}

/// A fault on the machine, in force.
#[track_caller]
fn held(machine: &Machine, words: &[&str]) -> Held {
    let mut command = machine.command(SNORKEL);
    command.args(words);
    Held::run(command).in_force()
}

fn address(docker: &Docker<'_>, name: &str) -> String {
    docker.inspect(name, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
}

/// The least round trip from the machine to an address, in milliseconds; `None` without an answer.
fn round_trip(machine: &Machine, address: &str) -> Option<f64> {
    let ran = finish(machine.command("ping").args(["-q", "-c", "2", "-W", "2", address]));
    (ran.status == Some(0)).then(|| least_round_trip(&ran.stdout))
}

#[track_caller]
fn wait_until_well(machine: &Machine, docker: &Docker<'_>, name: &str) {
    let address = address(docker, name);
    wait_until("its network works", || round_trip(machine, &address).is_some_and(|took| took < LATE));
}

/// Nothing is left of a fault: no program, no wire, nothing written down.
#[track_caller]
fn assert_nothing_left(machine: &Machine, links: &[u32]) {
    wait_until("no program stays", || {
        let all = snorkel_bpf::probe::links().unwrap();
        !links.iter().any(|link| all.contains(link))
    });
    wait_until("no wire stays", || !machine.run("ip", ["-o", "link"]).contains("wire-"));
    assert!(!machine.path("/run/snorkel/faults").exists());
}

#[test]
fn a_container_that_starts_again_is_free_of_its_fault_which_ends_and_says_so() {
    let machine = &Machine::new();
    let docker = machine.docker();
    docker.run("again", &[], Image::Busybox, &[]);
    for words in [
        &["impair", "again", DELAY[0], DELAY[1]][..],
        &["cut", "again", "--how", "reject"],
        &["cut", "again"],
    ] {
        let held = held(machine, words);
        let links = bpf_links(held.pid());
        assert!(
            !round_trip(machine, &address(&docker, "again")).is_some_and(|took| took < LATE),
            "{words:?}"
        );
        docker.cli(&["restart", "-t", "0", "again"]);
        let (status, said) = held.end();
        assert!(said.contains("is gone: its target has stopped or was started again"), "{words:?}: {said}");
        assert_eq!(status.code(), Some(1), "it did not last as long as it was to: {said}");
        wait_until_well(machine, &docker, "again");
        assert_nothing_left(machine, &links);
    }
}

#[test]
fn of_two_containers_one_goes_away_and_the_other_stays_disturbed() {
    let machine = &Machine::new();
    let docker = machine.docker();
    for name in ["goes", "stays"] {
        docker.run(name, &[], Image::Busybox, &[]);
    }
    let mut held = held(machine, &["impair", "goes", "stays", DELAY[0], DELAY[1]]);
    let links = bpf_links(held.pid());
    docker.remove("goes");
    held.wait_for("is gone: its target has stopped");
    let stays = address(&docker, "stays");
    assert!(round_trip(machine, &stays).is_some_and(|took| took >= LATE), "it is still late");
    held.interrupt();
    wait_until_well(machine, &docker, "stays");
    assert_nothing_left(machine, &links);
}

/// A Docker daemon that takes over what its predecessor left running. It is killed with the value.
struct Dockerd(Child);

impl Dockerd {
    #[track_caller]
    fn start(machine: &Machine) -> Dockerd {
        // The number in it is that of the one that was killed, which nobody has waited for yet: it still counts as running.
        machine.run("rm", ["-f", "/run/docker.pid"]);
        let mut command: Command = machine.command("dockerd");
        command
            .args(["--live-restore", "--host", "unix:///run/docker.sock"])
            .args(["--containerd", "/run/containerd/containerd.sock"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let dockerd = Dockerd(command.spawn().unwrap());
        wait_until("Docker answers again", || finish(machine.command("docker").arg("ps")).status == Some(0));
        dockerd
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_engine_that_dies_and_starts_again_changes_nothing_of_a_fault() {
    let machine = &Machine::new();
    let docker = machine.docker();
    docker.run("kept", &[], Image::Busybox, &[]);
    let (first, there) = (docker.pid("kept"), address(&docker, "kept"));
    let is_late = || round_trip(machine, &there).is_some_and(|took| took >= LATE);
    let held = held(machine, &["impair", "kept", DELAY[0], DELAY[1]]);
    let links = bpf_links(held.pid());
    assert!(is_late());
    signal(docker.daemon_pid(), libc::SIGKILL);
    wait_until("Docker is gone", || finish(machine.command("docker").arg("ps")).status != Some(0));
    assert!(is_late());
    let listed = ran(machine, &["faults", "--json", "--only-own"]);
    assert!(listed.status == 0 && listed.stdout.contains("docker:kept"), "{listed:?}");
    let dockerd = Dockerd::start(machine);
    assert_eq!(docker.pid("kept"), first, "the container did not notice");
    assert!(is_late());
    // By its name, which is the engine's.
    let healed = ran(machine, &["heal", "docker:kept"]);
    assert!(healed.status == 0 && healed.stdout.contains("packets pass again"), "{healed:?}");
    held.end();
    wait_until_well(machine, &docker, "kept");
    assert_nothing_left(machine, &links);
    drop(dockerd);
}
