//! A fault at several links, each of which takes its time. Needs root. The only test of its process, since it sets a variable.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use std::cell::Cell;

use common::World;
use snorkel_bpf::gate::{AHEAD, Direction, Rule, Verdict};
use snorkel_fault::force::{Force, Means};
use snorkel_fault::journal::Journal;
use snorkel_fault::plan::Action;
use snorkel_fault::{FaultId, Result};
use snorkel_netns::{Netns, NetnsId};

#[test]
fn what_is_in_force_stays_so_while_the_other_links_are_seen_to() {
    // Gates that no link of the kernel's holds, on every kernel.
    // SAFETY: nobody else reads the environment now: of the harness only this thread is at work.
    unsafe { std::env::set_var("SNORKEL_FAULT_CLSACT", "1") };
    let world = World::new();
    let id: FaultId = "fmany".parse().unwrap();
    let place = tempfile::tempdir().unwrap();
    let journal = Journal::at(place.path());
    let open = |_: NetnsId| -> Result<Netns> { Ok(world.host.try_clone()?) };
    let called = Cell::new(0);
    // As long as a gate counts that nobody has count on.
    let meanwhile = || {
        called.set(called.get() + 1);
        std::thread::sleep(AHEAD);
    };
    let means = Means { id: &id, journal: &journal, guardian: None, open: &open, meanwhile: &meanwhile };
    let silent = || Action::Gate {
        rules: vec![Rule::all(Direction::Out, Verdict::Drop)],
        wires: Vec::new(),
        flap: None,
    };
    let force = Force::apply(&world.plan(vec![silent(), silent()]), &means).unwrap();
    assert!(force.needs_pushing());
    assert_eq!(called.get(), 4, "once for each that is put in its place, once for each that is looked at");
    let (healed, _) = force.heal(&means);
    assert!(healed.troubles.is_empty(), "{healed:?}");
    assert_eq!(called.get(), 6, "and once for each that is healed");
}
