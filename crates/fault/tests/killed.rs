//! Whoever holds a fault is killed, in every stage: packets flow as before, and nothing stays, on this kernel by its own way
//! and by the old one. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use common::{HOST4, TARGET4, World};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use snorkel_bpf::gate::{Direction, Rule, Verdict, WireNumber};
use snorkel_fault::force::{Force, Means, leaves_behind};
use snorkel_fault::guardian::Guardian;
use snorkel_fault::journal::Journal;
use snorkel_fault::plan::{Action, Effect, Plan, Wire};
use snorkel_fault::{FaultId, Impairment, Result};
use snorkel_netns::{Netns, NetnsId, os};
use snorkel_rtnl::{FilterSide, Socket};

const STOP_AT: &str = "SNORKEL_FAULT_STOP_AT";
const OLD_WAY: &str = "SNORKEL_FAULT_CLSACT";
/// Not a stage of the fault: it is in force.
const HELD: &str = "held";
const OF_GATES: [&str; 7] =
    ["before-wires", "before-gate", "attached", "armed", HELD, "before-disarm", "disarmed"];
const OF_CABLES: [&str; 6] = ["before-journal", "guarded", "journalled", "down", HELD, "before-heal"];

fn silent() -> Action {
    let rules = Direction::ALL.map(|direction| Rule::all(direction, Verdict::Drop)).to_vec();
    Action::Gate { rules, wires: Vec::new(), flap: None }
}

/// Packets are late by more than anybody waits here.
fn late() -> Action {
    let effect =
        || Effect::Impair(Box::new(Impairment { delay: Duration::from_secs(3600), ..Impairment::default() }));
    Action::Gate {
        rules: vec![
            Rule::all(Direction::Out, Verdict::Wire(WireNumber(0))),
            Rule::all(Direction::In, Verdict::Wire(WireNumber(1))),
        ],
        wires: Direction::ALL.map(|direction| Wire { direction, effect: effect() }).to_vec(),
        flap: None,
    }
}

/// A fault's whole life, which stands still at a stage.
fn live(world: &World, plan: &Plan, place: &Path, stage: &str, old_way: bool) -> Result<()> {
    // SAFETY: this process has one thread, which is the copy of the one that has made it.
    unsafe {
        std::env::set_var(STOP_AT, stage);
        if old_way {
            std::env::set_var(OLD_WAY, "1");
        }
    }
    let id: FaultId = "fkilled".parse().unwrap();
    let journal = Journal::at(place);
    let open = |_: NetnsId| -> Result<Netns> { Ok(world.host.try_clone()?) };
    let guardian = leaves_behind(plan, &open)?.then(|| Guardian::start(&journal)).transpose()?;
    let means = Means { id: &id, journal: &journal, guardian: guardian.as_ref(), open: &open };
    let force = Force::apply(plan, &means)?;
    if stage == HELD {
        kill_process(rustix::process::getpid(), Signal::STOP).unwrap();
    }
    let (healed, _) = force.heal(&means);
    assert!(healed.troubles.is_empty(), "{healed:?}");
    Ok(())
}

/// Another process that has the fault at this stage, where it stands still.
fn stopped_at(world: &World, plan: &Plan, place: &Path, stage: &str, old_way: bool) -> Pid {
    // SAFETY: the copy has one thread. What it needs of the other's, which waits for this one's end, is the allocator, and
    // that the C library sets right (fork(3)). It never returns.
    let pid = match unsafe { libc::fork() } {
        0 => {
            let lived = std::panic::AssertUnwindSafe(|| live(world, plan, place, stage, old_way).unwrap());
            os::exit_now(i32::from(std::panic::catch_unwind(lived).is_err()));
        }
        pid => Pid::from_raw(pid).expect("a process can be made"),
    };
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().expect("it was waited for");
    assert!(status.stopped(), "at {stage}: {status:?}");
    pid
}

/// All that a fault could change at the host.
fn state(world: &World) -> String {
    let mut socket = Socket::open_in(&world.host).unwrap();
    let links: Vec<_> = socket
        .links(None)
        .unwrap()
        .into_iter()
        .map(|link| (link.index, link.name, link.mac, link.flags))
        .collect();
    let qdiscs: Vec<_> =
        socket.qdiscs(None).unwrap().into_iter().map(|qdisc| (qdisc.link, qdisc.kind)).collect();
    let filters = FilterSide::ALL.map(|side| socket.filters(world.port, side).unwrap());
    format!(
        "{links:?} {:?} {:?} {qdiscs:?} {filters:?}",
        socket.addresses(None).unwrap(),
        socket.routes().unwrap()
    )
}

/// Waits until a datagram comes through.
fn wait_for_passage(from: &UdpSocket, to: &UdpSocket, when: &str) {
    for _ in 0..10_000 {
        // While the link is down there is no way.
        let _ = from.send_to(b"found", to.local_addr().unwrap());
        std::thread::sleep(Duration::from_millis(1));
        if to.recv(&mut [0; 16]).is_ok() {
            return;
        }
    }
    panic!("nothing comes through, {when}");
}

#[track_caller]
fn killed_at_any_stage(action: Action, stages: &[&str], old_way: bool) {
    let world = World::new();
    let plan = world.plan(action);
    let place = tempfile::tempdir().unwrap();
    let (from, to) = (world.udp_in_target(TARGET4), world.udp_in_host(HOST4));
    to.set_nonblocking(true).unwrap();
    let before = state(&world);
    for stage in stages {
        let pid = stopped_at(&world, &plan, place.path(), stage, old_way);
        if *stage == HELD {
            let _ = from.send_to(b"lost", to.local_addr().unwrap());
            assert!(to.recv(&mut [0; 16]).is_err(), "it is in force");
        }
        kill_process(pid, Signal::KILL).unwrap();
        waitpid(Some(pid), WaitOptions::empty()).unwrap();
        wait_for_passage(&from, &to, stage);
        while to.recv(&mut [0; 16]).is_ok() {}
        let mut now = state(&world);
        for _ in 0..2000 {
            if now == before && place.path().join("faults").symlink_metadata().is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            now = state(&world);
        }
        assert_eq!(now, before, "{stage}");
        assert!(place.path().join("faults").symlink_metadata().is_err(), "{stage}: it is written down still");
    }
}

#[test]
fn a_cable_is_put_back() {
    killed_at_any_stage(Action::Carrier { flap: None }, &OF_CABLES, false);
}

#[test]
fn gates_go() {
    killed_at_any_stage(silent(), &OF_GATES, false);
}

#[test]
fn wires_go() {
    killed_at_any_stage(late(), &OF_GATES, false);
}

#[test]
fn filters_go() {
    killed_at_any_stage(silent(), &OF_GATES, true);
}

#[test]
fn wires_go_with_the_filters_that_lead_to_them() {
    killed_at_any_stage(late(), &OF_GATES, true);
}
