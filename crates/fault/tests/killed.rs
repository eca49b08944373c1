//! Whoever holds a fault is killed, in every stage: packets flow as before, and nothing stays, on this kernel by its own way
//! and by the old one. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use std::net::UdpSocket;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{HOST4, TARGET4, World};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use snorkel_bpf::gate::{Direction, Rule, Verdict, WireNumber};
use snorkel_fault::filters;
use snorkel_fault::force::{Force, Means};
use snorkel_fault::guardian::Guardian;
use snorkel_fault::journal::Journal;
use snorkel_fault::plan::{Action, Effect, Plan, Wire};
use snorkel_fault::{FaultId, Impairment, Result};
use snorkel_netns::{Netns, NetnsId, os};
use snorkel_rtnl::{FilterSide, Qdisc, Socket};

const STOP_AT: &str = "SNORKEL_FAULT_STOP_AT";
const OLD_WAY: &str = "SNORKEL_FAULT_CLSACT";
/// No stages of the fault: it is in force; it rests.
const HELD: &str = "held";
const RESTS: &str = "rests";
const OF_GATES: [&str; 7] =
    ["before-wires", "before-gate", "attached", "armed", HELD, "before-disarm", "disarmed"];
const OF_CABLES: [&str; 6] = ["before-journal", "guarded", "journalled", "down", HELD, "before-heal"];

fn of_filters() -> Vec<&'static str> {
    [&OF_GATES[..], &["before-filters"]].concat()
}

/// Only one test at a time makes processes.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

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
fn live(world: &World, plan: &Plan, place: &Path, id: &str, stage: &str, old_way: bool) -> Result<()> {
    // SAFETY: this process has one thread, which is the copy of the one that has made it.
    unsafe {
        std::env::set_var(STOP_AT, stage);
        if old_way {
            std::env::set_var(OLD_WAY, "1");
        }
    }
    let id: FaultId = id.parse().unwrap();
    let journal = Journal::at(place);
    let open = |_: NetnsId| -> Result<Netns> { Ok(world.host.try_clone()?) };
    let guarded = plan.sets_links_down() || filters::needed(std::slice::from_ref(plan), &open);
    let guardian = guarded.then(|| Guardian::start(&journal)).transpose()?;
    let means = Means { id: &id, journal: &journal, guardian: guardian.as_ref(), open: &open };
    let mut force = Force::apply(plan, &means)?;
    if stage == RESTS {
        force.turn(false, &journal)?;
    }
    if [HELD, RESTS].contains(&stage) {
        kill_process(rustix::process::getpid(), Signal::STOP).unwrap();
    }
    let (healed, _) = force.heal(&means);
    assert!(healed.troubles.is_empty(), "{healed:?}");
    Ok(())
}

/// A process that holds a fault. With the value it is killed.
struct Holder(Pid);

impl Holder {
    /// Lets it go on to its end, which has to be a good one.
    fn live_on(self) {
        kill_process(self.0, Signal::CONT).unwrap();
        let (_, status) = waitpid(Some(self.0), WaitOptions::empty()).unwrap().expect("it was waited for");
        assert_eq!(status.exit_status(), Some(0), "{status:?}");
        std::mem::forget(self);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let killed = kill_process(self.0, Signal::KILL);
        let ended = waitpid(Some(self.0), WaitOptions::empty());
        assert!(std::thread::panicking() || killed.is_ok() && ended.is_ok(), "{killed:?} {ended:?}");
    }
}

/// Another process that has the fault at this stage, where it stands still.
fn stopped_at(world: &World, plan: &Plan, place: &Path, id: &str, stage: &str, old_way: bool) -> Holder {
    // SAFETY: the copy has one thread, and never returns. What it needs that another thread could have held is the allocator,
    // which the C library sets right (fork(3)), and std's lock of the environment, which no other thread has: the tests of this
    // file take turns (`ALONE`), and all that the harness does meanwhile is to wait for them.
    let pid = match unsafe { libc::fork() } {
        0 => {
            let lived =
                std::panic::AssertUnwindSafe(|| live(world, plan, place, id, stage, old_way).unwrap());
            os::exit_now(i32::from(std::panic::catch_unwind(lived).is_err()));
        }
        pid => Pid::from_raw(pid).expect("a process can be made"),
    };
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().expect("it was waited for");
    assert!(status.stopped(), "at {stage}: {status:?}");
    Holder(pid)
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

/// The ends of a way through the link.
struct Way {
    from: UdpSocket,
    to: UdpSocket,
}

impl Way {
    fn of(world: &World) -> Way {
        let (from, to) = (world.udp_in_target(TARGET4), world.udp_in_host(HOST4));
        to.set_nonblocking(true).unwrap();
        Way { from, to }
    }

    fn send(&self, text: &[u8]) {
        // While the link is down there is no way at all.
        let _ = self.from.send_to(text, self.to.local_addr().unwrap());
    }

    /// Waits until a datagram comes through; of those before none did.
    fn wait_until_open(&self, when: &str) {
        let mut buffer = [0; 16];
        for _ in 0..10_000 {
            self.send(b"found");
            std::thread::sleep(Duration::from_millis(1));
            if let Ok(length) = self.to.recv(&mut buffer) {
                assert_eq!(&buffer[..length], b"found", "{when}");
                while self.to.recv(&mut buffer).is_ok() {}
                return;
            }
        }
        panic!("nothing comes through, {when}");
    }
}

/// Waits until the host is as it was, and so many entries are written down.
#[track_caller]
fn wait_until_as(before: &str, entries: usize, world: &World, place: &Path, when: &str) {
    let look = || {
        let entries = std::fs::read_dir(place.join("faults")).map_or(0, Iterator::count);
        (state(world), entries)
    };
    let mut now = look();
    for _ in 0..30_000 {
        if (now.0.as_str(), now.1) == (before, entries) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
        now = look();
    }
    assert_eq!((now.0.as_str(), now.1), (before, entries), "{when}");
}

#[track_caller]
fn killed_at_any_stage(action: Action, stages: &[&str], old_way: bool) {
    let _alone = alone();
    let world = World::new();
    let plan = world.plan(action);
    let place = tempfile::tempdir().unwrap();
    let way = Way::of(&world);
    let before = state(&world);
    for stage in stages {
        let holder = stopped_at(&world, &plan, place.path(), "fkilled", stage, old_way);
        if *stage == HELD {
            way.send(b"lost");
        }
        if *stage == "before-filters" {
            // As it may have come to by then.
            Socket::open_in(&world.host).unwrap().add_qdisc(world.port, Qdisc::Clsact).unwrap();
        }
        drop(holder);
        way.wait_until_open(stage);
        wait_until_as(&before, 0, &world, place.path(), stage);
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
    killed_at_any_stage(silent(), &of_filters(), true);
}

#[test]
fn wires_go_with_the_filters_that_lead_to_them() {
    killed_at_any_stage(late(), &of_filters(), true);
}

#[test]
fn filters_of_another_at_the_same_link_stay() {
    let _alone = alone();
    let world = World::new();
    let plan = world.plan(silent());
    let place = tempfile::tempdir().unwrap();
    let way = Way::of(&world);
    let before = state(&world);
    for older_first in [true, false] {
        let one = stopped_at(&world, &plan, place.path(), "fone", HELD, true);
        let between = state(&world);
        let two = stopped_at(&world, &plan, place.path(), "ftwo", HELD, true);
        if older_first {
            drop(one);
            // Its qdisc stays with the other's filters.
            let entries = || std::fs::read_dir(place.path().join("faults")).map_or(0, Iterator::count);
            for _ in 0..30_000 {
                if entries() == 1 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(entries(), 1);
            way.send(b"lost");
            drop(two);
        } else {
            drop(two);
            wait_until_as(&between, 1, &world, place.path(), "the younger is killed");
            way.send(b"lost");
            drop(one);
        }
        way.wait_until_open("both are killed");
        wait_until_as(&before, 0, &world, place.path(), "both are killed");
    }
}

#[test]
fn a_qdisc_that_another_has_made_while_filters_rest_stays() {
    let _alone = alone();
    let world = World::new();
    let plan = world.plan(silent());
    let place = tempfile::tempdir().unwrap();
    let before = state(&world);
    let resting = stopped_at(&world, &plan, place.path(), "frests", RESTS, true);
    wait_until_as(&before, 1, &world, place.path(), "it rests");
    Socket::open_in(&world.host).unwrap().add_qdisc(world.port, Qdisc::Clsact).unwrap();
    let with_qdisc = state(&world);
    assert_ne!(with_qdisc, before);
    drop(resting);
    wait_until_as(&with_qdisc, 0, &world, place.path(), "it is killed");
}

#[test]
fn filters_are_taken_off_though_another_keeps_the_journal_and_forgotten_later() {
    let _alone = alone();
    let world = World::new();
    let plan = world.plan(silent());
    let place = tempfile::tempdir().unwrap();
    let way = Way::of(&world);
    let before = state(&world);
    let holder = stopped_at(&world, &plan, place.path(), "flocked", HELD, true);
    let locked = Journal::at(place.path()).lock().unwrap().expect("it is written down");
    way.send(b"lost");
    holder.live_on();
    way.wait_until_open("it is healed");
    wait_until_as(&before, 1, &world, place.path(), "nobody could forget it");
    drop(locked);
    wait_until_as(&before, 0, &world, place.path(), "the guardian has forgotten it");
}
