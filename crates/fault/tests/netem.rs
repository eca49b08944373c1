//! netem in a wire, with kernels that have it, does what the emulation says. Needs root.
//!
//! A kernel without netem has to say so. One that is told to have it (`make test-kernels` knows which have) has to use it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{HOST4, Held, TARGET4, World, eventually};
use snorkel_bpf::gate::{Direction, Method};
use snorkel_fault::emulation::{Emulation, Fate, Moment, Packet};
use snorkel_fault::wire::{Backend, Duty, Wire};
use snorkel_fault::{Chance, Distribution, Impairment, Likely, Loss, Reorder};
use snorkel_rtnl::{Netem, Socket};

/// What the kernel is said to have, as `netem tcx seed`; not set where nobody knows.
const HAS: &str = "SNORKEL_TEST_KERNEL_HAS";

/// Ethernet, IPv4 and UDP headers and the payload of the datagrams here.
const LENGTH: u32 = 14 + 20 + 8 + 100;

fn said_to_have(what: &str) -> Option<bool> {
    let all = std::env::var(HAS).ok()?;
    Some(all.split(' ').any(|word| word == what))
}

fn chance(probability: f64) -> Chance {
    Chance::new(probability).unwrap()
}

fn likely(probability: f64) -> Likely {
    Likely { chance: chance(probability), correlation: Chance::default() }
}

/// A target whose packets to the host go through a wire with a netem.
struct Impaired {
    world: World,
    gate: Held,
    wire: Wire,
    emulation: Emulation,
    /// Whether the kernel begins with the seed that it is told.
    seeded: bool,
}

impl Impaired {
    /// Nothing if the kernel has no netem, which then must be what it says itself.
    fn by(impairment: &Impairment) -> Option<Impaired> {
        let world = World::new();
        let (gate, mut wire) = world.wire(Direction::Out, &Duty::Impair(impairment.clone()), Backend::Best);
        let mut inside = Socket::open_in(&world.private).unwrap();
        if !wire.kernel_queue() {
            let lo = inside.index_of("lo").unwrap().unwrap();
            assert!(inside.add_netem(lo, &Netem::default()).unwrap_err().is_missing());
            assert_ne!(said_to_have("netem"), Some(true));
            return None;
        }
        assert_ne!(said_to_have("netem"), Some(false));
        wire.read_back().unwrap();
        let qdiscs = inside.qdiscs(Some(wire.private())).unwrap();
        let seeded = qdiscs.iter().find_map(|qdisc| qdisc.netem.as_ref()).unwrap().seed.is_some();
        assert_eq!(seeded, said_to_have("seed").unwrap_or(seeded));
        Some(Impaired { world, gate, wire, emulation: Emulation::new(impairment), seeded })
    }

    /// Sends numbered datagrams, and says what the emulation makes of each, and when it was sent.
    fn send(&mut self, count: u32) -> (UdpSocket, Vec<(Fate, Instant)>) {
        let (from, to) = (self.world.udp_in_target(TARGET4), self.world.udp_in_host(HOST4));
        let there = to.local_addr().unwrap();
        let fates = (0..count).map(|number| {
            let mut payload = [0; 100];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            let sent = Instant::now();
            from.send_to(&payload, there).unwrap();
            (self.emulation.arrive(Packet { arrival: Moment(1 << 40), length: LENGTH }, 0), sent)
        });
        let fates = fates.collect();
        let entered = || self.gate.wire_counts().unwrap()[0].entered;
        eventually(entered, |entered| *entered == u64::from(count));
        (to, fates)
    }
}

/// The numbers of the next so many datagrams, and when each came.
fn numbers(socket: &UdpSocket, count: usize) -> Vec<(u32, Instant)> {
    let one = || {
        let mut buffer = [0; 200];
        socket.recv_from(&mut buffer).expect("it must come");
        (u32::from_be_bytes(buffer[..4].try_into().unwrap()), Instant::now())
    };
    (0..count).map(|_| one()).collect()
}

const COUNT: u32 = 1000;

#[test]
fn gates_are_held_by_what_the_kernel_has() {
    let world = World::new();
    let (gate, _wire) = world.wire(Direction::Out, &Duty::Impair(Impairment::default()), Backend::Best);
    let expected = said_to_have("tcx").map(|tcx| if tcx { Method::Tcx } else { Method::Clsact });
    assert_eq!(gate.method(), expected.or(gate.method()));
}

#[test]
fn the_seed_decides_which_packets_are_lost_and_which_come_twice() {
    let gemodel = Loss::Gemodel {
        p: chance(0.05),
        r: chance(0.3),
        lost_in_bad: chance(0.8),
        lost_in_good: chance(0.01),
    };
    for (loss, seed) in [(Loss::Random(likely(0.2)), 4711), (gemodel, 12)] {
        let impairment =
            Impairment { loss: Some(loss), duplicate: likely(0.1), seed, ..Impairment::default() };
        let Some(mut impaired) = Impaired::by(&impairment) else { return };
        let (to, fates) = impaired.send(COUNT);
        let expected: Vec<u32> = (0..)
            .zip(&fates)
            .flat_map(|(number, (fate, _))| fate.copies.iter().flatten().map(move |_| number))
            .collect();
        let wire = &mut impaired.wire;
        if impaired.seeded {
            let came: Vec<u32> = numbers(&to, expected.len()).into_iter().map(|(number, _)| number).collect();
            assert_eq!(came, expected, "{impairment:?}");
            assert_eq!(wire.counts().unwrap().sent, expected.len() as u64);
        } else if let Loss::Random(_) = loss {
            // Each copy is kept with the chance 0.8: a packet that is doubled and then lost goes on once, and its
            // second copy is drawn for by itself.
            let sent = eventually(|| wire.counts().unwrap(), |counts| counts.waiting == 0).sent;
            let expected = f64::from(COUNT) * (0.9 * 0.8 + 0.1 * 0.2 + 0.1 * 0.8 * 1.8);
            let deviation = (f64::from(COUNT) * 0.3).sqrt();
            assert!((sent as f64 - expected).abs() < 3.291 * deviation, "{sent} of {expected}");
        }
    }
}

#[test]
fn the_seed_decides_which_packets_overtake() {
    // What does not overtake waits for longer than any test lasts.
    let impairment = Impairment {
        delay: Duration::from_secs(3600),
        reorder: Some(Reorder { likely: likely(0.3), gap: 2 }),
        limit: Some(2 * COUNT),
        seed: 77,
        ..Impairment::default()
    };
    let Some(mut impaired) = Impaired::by(&impairment) else { return };
    let (to, fates) = impaired.send(COUNT);
    let overtakes = |fate: &Fate| fate.copies[0].is_some_and(|copy| copy.overtakes);
    let expected: Vec<u32> =
        (0..).zip(&fates).filter(|(_, (fate, _))| overtakes(fate)).map(|(number, _)| number).collect();
    if impaired.seeded {
        let came: Vec<u32> = numbers(&to, expected.len()).into_iter().map(|(number, _)| number).collect();
        assert_eq!(came, expected);
    }
    let counts = impaired.wire.counts().unwrap();
    assert_eq!(counts.sent + counts.waiting, u64::from(COUNT), "{counts:?}");
    if impaired.seeded {
        assert_eq!(counts.sent, expected.len() as u64);
    }
}

#[test]
fn no_packet_comes_before_the_time_that_the_seed_gives_it() {
    for distribution in [Distribution::Uniform, Distribution::Normal] {
        let impairment = Impairment {
            delay: Duration::from_millis(400),
            jitter: Duration::from_millis(90),
            distribution,
            seed: 5,
            ..Impairment::default()
        };
        let Some(mut impaired) = Impaired::by(&impairment) else { return };
        let (to, fates) = impaired.send(200);
        let mut came = numbers(&to, 200);
        if impaired.seeded {
            for (number, at) in &came {
                let (fate, sent) = &fates[*number as usize];
                let delay = Duration::from_nanos(fate.copies[0].unwrap().due.0 - (1 << 40));
                assert!(*at >= *sent + delay, "{number}: {:?} of {delay:?}", at.duration_since(*sent));
            }
        }
        came.sort();
        assert!((0..200).eq(came.iter().map(|(number, _)| *number)));
        let delay = &impaired.gate.wire_counts().unwrap()[0].delay;
        assert!(delay.samples > 0 && delay.min >= Duration::from_millis(40), "{delay:?}");
    }
}

#[test]
fn the_seed_decides_which_packets_are_damaged() {
    let impairment = Impairment {
        loss: Some(Loss::Random(likely(0.2))),
        corrupt: likely(0.1),
        seed: 3,
        ..Impairment::default()
    };
    let Some(mut impaired) = Impaired::by(&impairment) else { return };
    let (to, fates) = impaired.send(COUNT);
    let damaged =
        |number: u32| fates[number as usize].0.copies[0].is_some_and(|copy| copy.corrupted.is_some());
    let kept: Vec<u32> = (0..COUNT).filter(|number| fates[*number as usize].0.lost == 0).collect();
    let counts = eventually(|| impaired.wire.counts().unwrap(), |counts| counts.waiting == 0);
    assert_eq!(counts.sent + counts.dropped, u64::from(COUNT));
    if impaired.seeded {
        assert_eq!(counts.sent, kept.len() as u64);
        let whole: Vec<u32> = kept.into_iter().filter(|number| !damaged(*number)).collect();
        // No checksum covers the link's addresses: of what is damaged there, some comes.
        let mut came = Vec::new();
        while came.last() != whole.last() {
            came.extend(numbers(&to, 1).into_iter().map(|(number, _)| number).filter(|n| !damaged(*n)));
        }
        assert_eq!(came, whole);
    }
}
