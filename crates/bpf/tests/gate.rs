//! A gate with the real kernel: what passes, what is dropped, what is counted. Needs root.

mod common;

use common::{World, eventually, net, packets, received_before, rule};
use snorkel_bpf::gate::{Direction, Gate, Ports, Protocol, Rule, Verdict};

/// Drops datagrams that the target sends to a port.
fn drop_to(port: u16) -> Rule {
    Rule {
        protocol: Some(Protocol::Udp),
        ports: Ports { peer: Some(port), own: None },
        ..rule(Direction::Out, Verdict::Drop)
    }
}

#[test]
fn a_port_is_closed_in_one_direction_and_open_again_when_the_gate_goes() {
    for (here, there) in [(common::TARGET4, common::HOST4), (common::TARGET6, common::HOST6)] {
        let world = World::new();
        let (from, closed, open) =
            (world.udp_in_target(here), world.udp_in_host(there), world.udp_in_host(there));
        let gate = world.gate(&[drop_to(closed.local_addr().unwrap().port())], &[]);
        from.send_to(b"one", closed.local_addr().unwrap()).unwrap();
        from.send_to(b"two", open.local_addr().unwrap()).unwrap();
        assert!(received_before(&open, b"two").is_empty());
        // The other way it is open.
        closed.send_to(b"back", from.local_addr().unwrap()).unwrap();
        assert!(received_before(&from, b"back").is_empty());
        assert_eq!(packets(&gate), [1]);
        drop(gate);
        from.send_to(b"three", closed.local_addr().unwrap()).unwrap();
        assert_eq!(received_before(&closed, b"three"), Vec::<Vec<u8>>::new(), "the first one is gone");
    }
}

#[test]
fn what_is_spared_passes_before_it_is_dropped() {
    let world = World::new();
    let (from, spared, other) = (
        world.udp_in_target(common::TARGET4),
        world.udp_in_host(common::HOST4),
        world.udp_in_host(common::HOST4),
    );
    let port = spared.local_addr().unwrap().port();
    let spare = Rule {
        peers: vec![net("10.9.0.0/16"), net("10.0.0.1/32")],
        ports: Ports { peer: Some(port), own: None },
        ..rule(Direction::Out, Verdict::Pass)
    };
    let cut = Rule { peers: vec![net("10.0.0.0/24")], ..rule(Direction::Out, Verdict::Drop) };
    let gate = world.gate(&[spare, cut], &[]);
    from.send_to(b"lost", other.local_addr().unwrap()).unwrap();
    from.send_to(b"found", spared.local_addr().unwrap()).unwrap();
    assert!(received_before(&spared, b"found").is_empty());
    assert_eq!(packets(&gate), [1, 1]);
}

#[test]
fn a_wire_turns_packets_round_and_they_arrive_unmarked_and_once() {
    for direction in Direction::ALL {
        for (target, host) in [(common::TARGET4, common::HOST4), (common::TARGET6, common::HOST6)] {
            let world = World::new();
            let wire = world.wire("wire");
            let into = Rule {
                protocol: Some(Protocol::Udp),
                ..rule(direction, Verdict::Wire(snorkel_bpf::gate::WireNumber(0)))
            };
            let gate = world.gate(&[into], &[wire.ends(direction)]);
            let (inner, outer) = (world.udp_in_target(target), world.udp_in_host(host));
            let (from, to) = match direction {
                Direction::Out => (&inner, &outer),
                Direction::In => (&outer, &inner),
            };
            common::os::tell_marks(to);
            for number in 0..20u8 {
                from.send_to(&[number], to.local_addr().unwrap()).unwrap();
                assert_eq!(common::os::receive_with_mark(to), (vec![number], 0));
            }
            let counts = gate.wire_counts().unwrap();
            assert_eq!((counts[0].entered, counts[0].returned), (20, 20));
            assert_eq!(packets(&gate), [20]);
            assert!(counts[0].delay.samples >= 1);
            assert_eq!(counts[0].delay.histogram.iter().sum::<u64>(), counts[0].delay.samples);
        }
    }
}

#[test]
fn a_super_packet_counts_as_what_it_is_on_the_wire() {
    let world = World::new();
    let wire = world.wire("wire");
    let into = Rule {
        protocol: Some(Protocol::Tcp),
        ..rule(Direction::Out, Verdict::Wire(snorkel_bpf::gate::WireNumber(0)))
    };
    let gate = world.gate(&[into], &[wire.ends(Direction::Out)]);
    const TOTAL: usize = 4 << 20;
    common::tcp_transfer(&world.target, &world.host, common::HOST4, TOTAL);
    let entered = eventually(
        || gate.wire_counts().unwrap()[0].clone(),
        |counts| counts.entered == packets(&gate)[0] && counts.returned == counts.entered,
    );
    assert!(entered.entered > (TOTAL / 1460) as u64, "{entered:?}");
}

#[test]
fn a_gate_that_is_not_attached_is_not_in_force() {
    let gate = Gate::load(&[], &[]).unwrap();
    assert!(gate.verify().is_err());
}
