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
use tempfile::TempDir;

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

/// A host and a target, a fault that is planned for them, and a journal for it.
struct Scene {
    world: World,
    plan: Plan,
    place: TempDir,
    /// The ends of a way through the link.
    from: UdpSocket,
    to: UdpSocket,
    /// The host before any fault.
    before: String,
    _alone: MutexGuard<'static, ()>,
}

impl Scene {
    fn of(action: Action) -> Scene {
        let alone = alone();
        let world = World::new();
        let (from, to) = (world.udp_in_target(TARGET4), world.udp_in_host(HOST4));
        to.set_nonblocking(true).unwrap();
        let (plan, place, before) = (world.plan(action), tempfile::tempdir().unwrap(), state(&world));
        Scene { world, plan, place, from, to, before, _alone: alone }
    }

    /// Another process that has the fault at this stage, where it stands still.
    fn stopped_at(&self, id: &str, stage: &str, old_way: bool) -> Holder {
        // SAFETY: the copy has one thread, and never returns. What it needs that another thread could have held is the
        // allocator, which the C library sets right (fork(3)), and std's lock of the environment, which no other thread has:
        // the tests of this file take turns (`ALONE`), and all that the harness does meanwhile is to wait for them.
        let pid = match unsafe { libc::fork() } {
            0 => {
                let lived = std::panic::AssertUnwindSafe(|| {
                    live(&self.world, &self.plan, self.place.path(), id, stage, old_way).unwrap();
                });
                os::exit_now(i32::from(std::panic::catch_unwind(lived).is_err()));
            }
            pid => Pid::from_raw(pid).expect("a process can be made"),
        };
        let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().expect("it was waited for");
        assert!(status.stopped(), "at {stage}: {status:?}");
        Holder(pid)
    }

    fn send(&self, text: &[u8]) {
        // While the link is down there is no way at all.
        let _ = self.from.send_to(text, self.to.local_addr().unwrap());
    }

    /// Waits until a datagram comes through; of those before none did.
    #[track_caller]
    fn wait_until_open(&self) {
        let mut buffer = [0; 16];
        for _ in 0..10_000 {
            self.send(b"found");
            std::thread::sleep(Duration::from_millis(1));
            if let Ok(length) = self.to.recv(&mut buffer) {
                assert_eq!(&buffer[..length], b"found");
                while self.to.recv(&mut buffer).is_ok() {}
                return;
            }
        }
        panic!("nothing comes through");
    }

    /// How many faults' links are written down.
    fn entries(&self) -> usize {
        std::fs::read_dir(self.place.path().join("faults")).map_or(0, Iterator::count)
    }

    /// Waits until so many are.
    #[track_caller]
    fn wait_for_entries(&self, wanted: usize) {
        for _ in 0..30_000 {
            if self.entries() == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(self.entries(), wanted);
    }

    /// Waits until so many links are written down, and the host is as it was then.
    #[track_caller]
    fn wait_until_as(&self, then: &str, entries: usize) {
        self.wait_for_entries(entries);
        for _ in 0..30_000 {
            if state(&self.world) == then {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(state(&self.world), then);
    }

    /// As another makes it, or a fault that is about to come into force.
    fn add_qdisc(&self) {
        Socket::open_in(&self.world.host).unwrap().add_qdisc(self.world.port, Qdisc::Clsact).unwrap();
    }
}

#[track_caller]
fn killed_at_any_stage(action: Action, stages: &[&str], old_way: bool) {
    let scene = Scene::of(action);
    for stage in stages {
        println!("{stage}");
        let holder = scene.stopped_at("fkilled", stage, old_way);
        if *stage == HELD {
            scene.send(b"lost");
        }
        if *stage == "before-filters" {
            // As it may have come to by then.
            scene.add_qdisc();
        }
        drop(holder);
        scene.wait_until_open();
        scene.wait_until_as(&scene.before, 0);
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
    let scene = Scene::of(silent());
    for older_first in [true, false] {
        let one = scene.stopped_at("fone", HELD, true);
        let between = state(&scene.world);
        let two = scene.stopped_at("ftwo", HELD, true);
        let last = if older_first {
            drop(one);
            // Its qdisc stays with the other's filters.
            scene.wait_for_entries(1);
            two
        } else {
            drop(two);
            scene.wait_until_as(&between, 1);
            one
        };
        scene.send(b"lost");
        drop(last);
        scene.wait_until_open();
        scene.wait_until_as(&scene.before, 0);
    }
}

#[test]
fn a_qdisc_that_another_has_made_while_filters_rest_stays() {
    let scene = Scene::of(silent());
    let resting = scene.stopped_at("frests", RESTS, true);
    scene.wait_until_as(&scene.before, 1);
    scene.add_qdisc();
    let with_qdisc = state(&scene.world);
    assert_ne!(with_qdisc, scene.before);
    drop(resting);
    scene.wait_until_as(&with_qdisc, 0);
}

#[test]
fn filters_are_taken_off_though_another_keeps_the_journal_and_forgotten_later() {
    let scene = Scene::of(silent());
    let holder = scene.stopped_at("flocked", HELD, true);
    let locked = Journal::at(scene.place.path()).lock().unwrap().expect("it is written down");
    scene.send(b"lost");
    holder.live_on();
    scene.wait_until_open();
    // Nobody could forget it.
    scene.wait_until_as(&scene.before, 1);
    drop(locked);
    // The guardian does.
    scene.wait_until_as(&scene.before, 0);
}
