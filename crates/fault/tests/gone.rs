//! What is left of a wire that is gone, with the real kernel. Needs root. It counts what the process has open, and has it for
//! itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use std::time::Duration;

use common::World;
use snorkel_fault::Impairment;
use snorkel_fault::wire::{Duty, Wire};
use snorkel_rtnl::Socket;

#[test]
fn a_wire_leaves_nothing_and_says_when_it_is_gone() {
    let world = World::new();
    let links = || Socket::open_in(&world.host).unwrap().links(None).unwrap().len();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let late = Impairment { delay: Duration::from_millis(1), ..Impairment::default() };
    let duties = [Duty::Impair(Impairment::default()), Duty::Impair(late), Duty::Reject];
    let before = (links(), descriptors());
    for _ in 0..5 {
        for duty in &duties {
            let mut wire = Wire::make(&world.host, &world.private, duty).unwrap();
            wire.read_back().unwrap();
            assert_eq!(links(), before.0 + 1);
        }
        assert_eq!((links(), descriptors()), before);
    }
    let mut wire = Wire::make(&world.host, &world.private, &duties[1]).unwrap();
    Socket::open_in(&world.host).unwrap().set_down(wire.public()).unwrap();
    assert!(wire.read_back().unwrap_err().to_string().contains("down"));
    Socket::open_in(&world.host).unwrap().remove(wire.public()).unwrap();
    assert!(wire.read_back().unwrap_err().to_string().contains("gone"));
}
