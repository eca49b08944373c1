//! Several gates at one link, and the programs of others. Needs root.

#![allow(clippy::unwrap_used, reason = "what cannot be done fails the test")]

mod common;

use std::net::UdpSocket;

use common::{Wire, World, methods, packets, received_before, rule};
use snorkel_bpf::gate::{Direction, Gate, Method, Protocol, Rule, Verdict, WireNumber};
use snorkel_rtnl::{AttachedQdisc, FilterSide, Qdisc, Socket};

fn udp_into_a_wire(direction: Direction) -> Rule {
    Rule { protocol: Some(Protocol::Udp), ..rule(direction, Verdict::Wire(WireNumber(0))) }
}

fn attached(world: &World, method: Method, rules: &[Rule], wires: &[&Wire], direction: Direction) -> Gate {
    let ends: Vec<_> = wires.iter().map(|wire| wire.ends(direction)).collect();
    let mut gate = Gate::load(rules, &ends).unwrap();
    gate.attach_by(&world.at(), method).unwrap();
    gate.verify().unwrap();
    gate
}

/// Sends from one to the other, and says how it arrives; once, and without a mark.
fn passes(from: &UdpSocket, to: &UdpSocket, text: &[u8]) {
    from.send_to(text, to.local_addr().unwrap()).unwrap();
    assert_eq!(common::os::receive_with_mark(to), (text.to_vec(), 0));
}

#[test]
fn each_of_two_gates_has_every_packet_once_and_they_go_in_any_order() {
    for method in methods() {
        for direction in Direction::ALL {
            for older_first in [true, false] {
                let world = World::new();
                let (one, two) = (world.wire("one"), world.wire("two"));
                let (inner, outer) = (world.udp_in_target(common::TARGET4), world.udp_in_host(common::HOST4));
                let (from, to) = match direction {
                    Direction::Out => (&inner, &outer),
                    Direction::In => (&outer, &inner),
                };
                common::os::tell_marks(to);
                let older = attached(&world, method, &[udp_into_a_wire(direction)], &[&one], direction);
                let newer = attached(&world, method, &[udp_into_a_wire(direction)], &[&two], direction);
                for number in 0..10 {
                    passes(from, to, &[number]);
                }
                assert_eq!((packets(&older), packets(&newer)), (vec![10], vec![10]));
                older.verify().unwrap();
                newer.verify().unwrap();
                let left = if older_first {
                    drop(older);
                    newer
                } else {
                    drop(newer);
                    older
                };
                passes(from, to, b"again");
                assert_eq!(packets(&left), [11]);
                assert_eq!(left.wire_counts().unwrap()[0].returned, 11);
                drop(left);
                passes(from, to, b"free");
            }
        }
    }
}

#[test]
fn what_the_newer_gate_drops_the_older_one_never_sees() {
    for method in methods() {
        let world = World::new();
        let (from, to) = (world.udp_in_target(common::TARGET4), world.udp_in_host(common::HOST4));
        let all = [Rule { protocol: Some(Protocol::Udp), ..rule(Direction::Out, Verdict::Drop) }];
        let (older, newer) = (
            attached(&world, method, &all, &[], Direction::Out),
            attached(&world, method, &all, &[], Direction::Out),
        );
        from.send_to(b"one", to.local_addr().unwrap()).unwrap();
        common::eventually(|| packets(&newer), |counts| *counts == [1]);
        assert_eq!(packets(&older), [0]);
    }
}

#[test]
fn filters_of_others_and_their_qdisc_stay_and_see_what_passes() {
    let world = World::new();
    let mut socket = Socket::open_in(&world.host).unwrap();
    socket.add_qdisc(world.port, Qdisc::Clsact).unwrap();
    // Another's program, here one that drops what it is told to: a gate that somebody else's process holds.
    let (from, to) = (world.udp_in_target(common::TARGET4), world.udp_in_host(common::HOST4));
    let look = |socket: &mut Socket| {
        let qdiscs = socket.qdiscs(Some(world.port)).unwrap().into_iter();
        (
            // Before 6.13 or so a clsact counts what goes by.
            qdiscs.map(|qdisc| AttachedQdisc { statistics: Default::default(), ..qdisc }).collect::<Vec<_>>(),
            FilterSide::ALL.map(|side| socket.filters(world.port, side).unwrap()),
        )
    };
    let before = look(&mut socket);
    let gate = attached(&world, Method::Clsact, &[], &[], Direction::Out);
    assert_ne!(look(&mut socket), before);
    from.send_to(b"one", to.local_addr().unwrap()).unwrap();
    assert!(received_before(&to, b"one").is_empty());
    drop(gate);
    assert_eq!(look(&mut socket), before);
}

#[test]
fn a_qdisc_that_was_made_for_gates_goes_with_the_last_of_them() {
    let world = World::new();
    let mut socket = Socket::open_in(&world.host).unwrap();
    let before = socket.qdiscs(Some(world.port)).unwrap();
    let first = attached(&world, Method::Clsact, &[], &[], Direction::Out);
    let second = attached(&world, Method::Clsact, &[], &[], Direction::Out);
    drop(first);
    second.verify().unwrap();
    assert_ne!(socket.qdiscs(Some(world.port)).unwrap(), before);
    drop(second);
    assert_eq!(socket.qdiscs(Some(world.port)).unwrap(), before);
}

#[test]
fn a_link_that_goes_takes_the_gate_out_of_force() {
    for method in methods() {
        let world = World::new();
        let all = [rule(Direction::Out, Verdict::Drop)];
        let gate = attached(&world, method, &all, &[], Direction::Out);
        Socket::open_in(&world.host).unwrap().remove(world.port).unwrap();
        assert!(gate.verify().is_err());
    }
}
