//! What becomes of a gate whose process is killed. Needs root.
#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{World, eventually, methods, received_before, rule};
use snorkel_bpf::gate::{self, AttachPoint, Direction, Gate, Method, Protocol, Rule, Verdict};
use snorkel_bpf::probe;
use snorkel_netns::Netns;
use snorkel_rtnl::{FilterSide, IfIndex, Qdisc, Socket};

/// Where the holder is told: the namespace's path, the link, the way.
const HOLDER: &str = "SNORKEL_TEST_HOLDER";

/// Another process that cuts the target off for datagrams, and holds the gate until it is killed.
fn hold(world: &World, method: Method) -> Child {
    let netns = format!("/proc/{}/fd/{}", std::process::id(), world.host.as_fd().as_raw_fd());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_holder", "--ignored", "--nocapture"])
        .env(HOLDER, format!("{netns} {} {method:?}", world.port))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.contains("ready"));
    assert!(ready, "the holder failed: {:?}", child.wait());
    child
}

#[test]
#[ignore = "not a test: the process that the tests of this file start and kill"]
fn the_holder() {
    let told = std::env::var(HOLDER).unwrap();
    let mut words = told.split(' ');
    let netns = Netns::open(Path::new(words.next().unwrap())).unwrap();
    let link = IfIndex::new(words.next().unwrap().parse().unwrap()).unwrap();
    let method = if words.next().unwrap() == "Tcx" { Method::Tcx } else { Method::Clsact };
    let cut = Direction::ALL.map(|to| Rule { protocol: Some(Protocol::Udp), ..rule(to, Verdict::Drop) });
    let mut gate = Gate::load(&cut, &[]).unwrap();
    gate.attach_by(&AttachPoint { netns: &netns, link, inside: false, owner: "killed" }, method).unwrap();
    gate.verify().unwrap();
    println!("ready");
    // Until the end of its parent at the latest.
    let _ = std::io::stdin().read(&mut [0; 1]);
}

#[test]
fn the_kernel_takes_links_back_at_once() {
    let world = World::new();
    let (from, to) = (world.udp_in_target(common::TARGET4), world.udp_in_host(common::HOST4));
    let links = || probe::links().unwrap().into_iter().collect::<BTreeSet<u32>>();
    let before = links();
    let mut holder = hold(&world, Method::Tcx);
    let meanwhile: BTreeSet<u32> = links().difference(&before).copied().collect();
    assert!(meanwhile.len() >= 2, "a link for each direction");
    from.send_to(b"lost", to.local_addr().unwrap()).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    // Other tests have links, too; they end by themselves.
    eventually(|| links().intersection(&meanwhile).count(), |left| *left == 0);
    from.send_to(b"found", to.local_addr().unwrap()).unwrap();
    assert!(received_before(&to, b"found").is_empty());
}

/// No clock decides: a holder that gets no processor, here for longer than any watchdog of seconds would have patience,
/// holds what it holds; and with its death everything passes.
#[test]
fn a_gate_is_in_force_as_long_as_its_holder_lives_though_it_does_nothing() {
    for method in methods() {
        let world = World::new();
        let (from, to) = (world.udp_in_target(common::TARGET4), world.udp_in_host(common::HOST4));
        let send = |text: &[u8]| from.send_to(text, to.local_addr().unwrap()).unwrap();
        let mut holder = hold(&world, method);
        let pid = rustix::process::Pid::from_child(&holder);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            send(b"lost");
            std::thread::sleep(Duration::from_millis(10));
        }
        holder.kill().unwrap();
        holder.wait().unwrap();
        to.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16];
        let first = eventually(
            || {
                send(b"found");
                to.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
            },
            Option::is_some,
        );
        assert_eq!(first.as_deref(), Some(&b"found"[..]), "{method:?}");
    }
}

#[test]
fn filters_are_swept_away_when_nobody_holds_them() {
    let world = World::new();
    let mut socket = Socket::open_in(&world.host).unwrap();
    let mut look = || {
        let filters = FilterSide::ALL.map(|side| socket.filters(world.port, side).unwrap());
        (socket.qdiscs(Some(world.port)).unwrap(), filters)
    };
    let before = look();
    let mut holder = hold(&world, Method::Clsact);
    // Another's is not to be touched.
    let mut held = Gate::load(&[rule(Direction::Out, Verdict::Drop)], &[]).unwrap();
    held.attach_by(&world.at(), Method::Clsact).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let sweep = || gate::sweep(&world.host, world.port, "killed", false).unwrap();
    assert_eq!((sweep(), sweep()), (2, 0));
    held.verify().unwrap();
    drop(held);
    assert_eq!(look(), before);
}

#[test]
fn a_qdisc_without_filters_is_swept_if_it_would_have_come_with_them() {
    let world = World::new();
    let mut socket = Socket::open_in(&world.host).unwrap();
    let mut qdiscs = || {
        let all = socket.qdiscs(Some(world.port)).unwrap();
        all.iter().filter(|qdisc| qdisc.kind == "clsact").count()
    };
    assert!(gate::brings_qdisc(&world.host, world.port).unwrap());
    // As a process leaves it that is killed before its first filter.
    Socket::open_in(&world.host).unwrap().add_qdisc(world.port, Qdisc::Clsact).unwrap();
    assert!(!gate::brings_qdisc(&world.host, world.port).unwrap(), "it may be anybody's");
    gate::sweep(&world.host, world.port, "killed", false).unwrap();
    assert_eq!(qdiscs(), 1);
    gate::sweep(&world.host, world.port, "killed", true).unwrap();
    assert_eq!(qdiscs(), 0);
    let mut held = Gate::load(&[], &[]).unwrap();
    held.attach_by(&world.at(), Method::Clsact).unwrap();
    assert!(gate::brings_qdisc(&world.host, world.port).unwrap(), "it has come with a gate's filters");
}
