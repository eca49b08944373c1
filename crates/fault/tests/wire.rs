//! Wires at the link of a target, with the real kernel. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what cannot be done fails the test")]

mod common;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{HOST4, HOST6, TARGET4, TARGET6, World, eventually};
use snorkel_bpf::gate::{Direction, Gate};
use snorkel_fault::emulation::{Emulation, Moment, Packet};
use snorkel_fault::wire::{Backend, Counts, Detail, Duty, Wire};
use snorkel_fault::{Chance, Impairment, Likely, Loss, Reorder};
use snorkel_netns::Netns;
use snorkel_rtnl::Socket;

fn likely(probability: f64) -> Likely {
    Likely { chance: Chance::new(probability).unwrap(), correlation: Chance::default() }
}

fn losing(probability: f64, seed: u64) -> Impairment {
    Impairment { loss: Some(Loss::Random(likely(probability))), seed, ..Impairment::default() }
}

fn own(world: &World, direction: Direction, impairment: &Impairment) -> (Gate, Wire) {
    world.wire(direction, &Duty::Impair(impairment.clone()), Backend::Own)
}

/// The counts, once everything that has entered is accounted for.
fn settled(gate: &Gate, wire: &mut Wire) -> (Counts, Detail) {
    let look = || {
        let entered = gate.wire_counts().unwrap()[0].entered;
        (entered, wire.counts().unwrap())
    };
    let (_, counts) = eventually(look, |(entered, counts)| {
        let detail = counts.detail.unwrap();
        // The counts are written one after the other: those of one moment add up.
        let gone = counts.sent + detail.lost + detail.no_room + detail.refused;
        detail.arrived == *entered && counts.waiting == 0 && gone == detail.arrived + detail.duplicated
    });
    (counts, counts.detail.unwrap())
}

/// Whether a count of so many trials is within the 99.9 % bounds of the binomial distribution.
fn within(count: u64, trials: u64, probability: f64) -> bool {
    let mean = trials as f64 * probability;
    let deviation = (mean * (1.0 - probability)).sqrt();
    (count as f64 - mean).abs() <= 3.291 * deviation
}

/// Sends so many numbered datagrams from the target to the host; gives both sockets.
fn numbered(world: &World, count: u32, length: usize) -> (UdpSocket, UdpSocket) {
    let (from, to) = (world.udp_in_target(TARGET4), world.udp_in_host(HOST4));
    let there = to.local_addr().unwrap();
    for number in 0..count {
        let mut payload = vec![0; length];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        from.send_to(&payload, there).unwrap();
    }
    (from, to)
}

/// The numbers of the next so many datagrams.
fn numbers(socket: &UdpSocket, count: usize) -> Vec<u32> {
    let mut buffer = [0; 65536];
    let mut one = || {
        socket.recv_from(&mut buffer).expect("it must come");
        u32::from_be_bytes(buffer[..4].try_into().unwrap())
    };
    (0..count).map(|_| one()).collect()
}

/// A stream of TCP from one side to an address of the other, which has to arrive as it was sent.
fn transfer(from: &Netns, to: &Netns, address: &str, total: usize) {
    let address: IpAddr = address.parse().unwrap();
    let listener = to.run(|| TcpListener::bind(SocketAddr::new(address, 0))).unwrap().unwrap();
    let there = listener.local_addr().unwrap();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
        got
    });
    let sent: Vec<u8> = (0u32..).flat_map(u32::to_be_bytes).take(total).collect();
    let mut stream = from.run(|| TcpStream::connect(there)).unwrap().unwrap();
    stream.write_all(&sent).unwrap();
    drop(stream);
    assert!(reader.join().unwrap() == sent);
}

#[test]
fn no_packet_comes_back_before_its_delay_is_over() {
    let world = World::new();
    let delay = Duration::from_millis(20);
    let (gate, _wire) = own(&world, Direction::Out, &Impairment { delay, ..Impairment::default() });
    let (from, to) = (world.udp_in_target(TARGET4), world.udp_in_host(HOST4));
    let sent: Vec<Instant> = (0..100u32)
        .map(|number| {
            let now = Instant::now();
            from.send_to(&number.to_be_bytes(), to.local_addr().unwrap()).unwrap();
            now
        })
        .collect();
    for (number, sent) in (0..).zip(sent) {
        assert_eq!(numbers(&to, 1), [number]);
        assert!(sent.elapsed() >= delay, "{number}: {:?}", sent.elapsed());
    }
    assert!(gate.wire_counts().unwrap()[0].delay.samples > 0);
}

#[test]
fn what_the_seed_says_is_lost_and_nothing_else() {
    let world = World::new();
    let impairment = losing(0.2, 4711);
    let (gate, mut wire) = own(&world, Direction::Out, &impairment);
    const COUNT: u32 = 400;
    let (from, to) = numbered(&world, COUNT, 100);
    let mut emulation = Emulation::new(&impairment);
    let packet = |number| Packet { arrival: Moment(number), length: 142 };
    let kept: Vec<u32> =
        (0..COUNT).filter(|number| emulation.arrive(packet(u64::from(*number)), 0).lost == 0).collect();
    drop(from);
    let (counts, detail) = settled(&gate, &mut wire);
    let lost = u64::from(COUNT) - kept.len() as u64;
    assert_eq!((detail.arrived, detail.lost, counts.sent), (u64::from(COUNT), lost, kept.len() as u64));
    assert_eq!(numbers(&to, kept.len()), kept);
}

#[test]
fn packets_of_a_bulk_transfer_are_lost_one_by_one_in_spite_of_offloads() {
    for (probability, total, seed) in [(0.01, 12 << 20, 1001), (0.1, 1 << 20, 1002)] {
        for address in [HOST4, HOST6] {
            let world = World::new();
            let (gate, mut wire) = own(&world, Direction::Out, &losing(probability, seed));
            transfer(&world.target, &world.host, address, total);
            let (counts, detail) = settled(&gate, &mut wire);
            let entered = detail.arrived;
            assert!(entered > total as u64 / 1500, "{entered}: super-packets were not cut");
            assert!(within(detail.lost, entered, probability), "{probability}: {} of {entered}", detail.lost);
            assert_eq!((detail.no_room, detail.refused), (0, 0), "{detail:?}");
            assert_eq!(counts.sent, entered - detail.lost);
            // What TCP sends again may come later still.
            let ends = || (gate.wire_counts().unwrap()[0].returned, wire.counts().unwrap().sent);
            eventually(ends, |(returned, sent)| returned == sent);
        }
    }
}

#[test]
fn doubled_damaged_and_overtaking_packets_are_counted_and_come() {
    let world = World::new();
    let impairment = Impairment {
        delay: Duration::from_millis(5),
        duplicate: likely(0.5),
        reorder: Some(Reorder { likely: likely(0.3), gap: 1 }),
        seed: 9,
        ..Impairment::default()
    };
    let (gate, mut wire) = own(&world, Direction::Out, &impairment);
    const COUNT: u32 = 300;
    let (_from, to) = numbered(&world, COUNT, 100);
    let (counts, detail) = settled(&gate, &mut wire);
    assert_eq!(counts.sent, u64::from(COUNT) + detail.duplicated, "{counts:?}");
    assert!(within(detail.duplicated, COUNT.into(), 0.5), "{detail:?}");
    assert!(within(detail.reordered, counts.sent, 0.3), "{detail:?}");
    let got = numbers(&to, counts.sent as usize);
    assert_eq!(got.iter().copied().collect::<BTreeSet<_>>().len(), COUNT as usize);
    assert!(!got.is_sorted());

    let world = World::new();
    let (gate, mut wire) =
        own(&world, Direction::Out, &Impairment { corrupt: likely(1.0), ..Impairment::default() });
    let (_from, to) = numbered(&world, COUNT, 1000);
    let (counts, detail) = settled(&gate, &mut wire);
    assert_eq!((detail.corrupted, counts.sent), (COUNT.into(), COUNT.into()));
    // A check sum finds one turned bit always, wherever it covers; addresses of the link are not covered.
    to.set_nonblocking(true).unwrap();
    let come = (0..).take_while(|_| to.recv(&mut [0; 2000]).is_ok()).count();
    assert!(come < 30, "{come}");
}

#[test]
fn a_rate_with_a_short_queue_drops_what_has_no_room_and_says_so() {
    let world = World::new();
    let impairment = Impairment { rate: Some(100_000), limit: Some(10), ..Impairment::default() };
    let (gate, mut wire) = own(&world, Direction::Out, &impairment);
    let (_from, to) = numbered(&world, 200, 1000);
    let (counts, detail) = settled(&gate, &mut wire);
    assert_eq!(counts.sent + detail.no_room, 200);
    assert!(counts.sent >= 10 && detail.no_room >= 150, "{counts:?}");
    assert_eq!(numbers(&to, 10), (0..10).collect::<Vec<_>>());
}

#[test]
fn large_packets_go_through_whole() {
    let world = World::new().with_mtu(9000);
    for delay in [0, 3] {
        let delay = Duration::from_millis(delay);
        let (_gate, _wire) = own(&world, Direction::Out, &Impairment { delay, ..Impairment::default() });
        for length in [1900, 1941, 1942, 2006, 2007, 8000] {
            let (_from, to) = numbered(&world, 20, length);
            let mut buffer = [0; 65536];
            for number in 0..20u32 {
                let (got, _) = to.recv_from(&mut buffer).expect("it must come");
                assert_eq!((got, &buffer[..4]), (length, &number.to_be_bytes()[..]));
            }
        }
    }
}

#[test]
fn both_ways_each_have_their_own_wire() {
    let world = World::new();
    for direction in Direction::ALL {
        let (gate, mut wire) = own(&world, direction, &losing(0.05, 3));
        transfer(&world.target, &world.host, HOST4, 1 << 20);
        let (_, detail) = settled(&gate, &mut wire);
        assert!(detail.arrived > 0 && detail.lost > 0, "{direction:?}: {detail:?}");
    }
}

#[test]
fn a_wire_that_does_nothing_is_left_to_the_kernel() {
    let world = World::new();
    let (gate, wire) = world.wire(Direction::Out, &Duty::Impair(Impairment::default()), Backend::Best);
    assert!(wire.kernel_queue());
    let (_from, to) = numbered(&world, 100, 100);
    assert_eq!(numbers(&to, 100), (0..100).collect::<Vec<_>>());
    let counts = &gate.wire_counts().unwrap()[0];
    assert_eq!((counts.entered, counts.returned), (100, 100));
}

#[test]
fn a_stream_arrives_and_nothing_of_it_is_lost_whoever_carries_it() {
    const STREAM: usize = 4 << 20;
    // More than a stream has under way.
    let late = Impairment { delay: Duration::from_millis(1), limit: Some(10_000), ..Impairment::default() };
    for (duty, offloads) in [(late.clone(), true), (late, false), (Impairment::default(), true)] {
        for direction in Direction::ALL {
            let mut world = World::new();
            if !offloads {
                world = world.without_offloads();
            }
            let (gate, _wire) = world.wire(direction, &Duty::Impair(duty.clone()), Backend::Best);
            match direction {
                Direction::Out => transfer(&world.target, &world.host, HOST4, STREAM),
                Direction::In => transfer(&world.host, &world.target, TARGET6, STREAM),
            }
            let ends = || gate.wire_counts().unwrap()[0].clone();
            let counts = eventually(ends, |counts| counts.returned == counts.entered);
            assert!(counts.entered > STREAM as u64 / 1500, "{counts:?}");
        }
    }
}

#[test]
fn segments_of_tcp_come_back_joined_and_are_counted_one_by_one() {
    let world = World::new().without_offloads();
    let late = Impairment { delay: Duration::from_millis(1), ..Impairment::default() };
    let (gate, _wire) = own(&world, Direction::Out, &late);
    let before = world.received();
    transfer(&world.target, &world.host, HOST4, 8 << 20);
    let counts = &gate.wire_counts().unwrap()[0];
    // Of a packet of 1500 bytes 1448 are payload.
    assert!(counts.returned >= (8 << 20) / 1448, "{counts:?}");
    let received = world.received() - before;
    assert!(received < counts.returned / 2, "{received} packets of {}", counts.returned);
}

#[test]
fn who_is_turned_down_is_told_at_once() {
    for (host, target) in [(HOST4, TARGET4), (HOST6, TARGET6)] {
        let world = World::new();
        let address: IpAddr = host.parse().unwrap();
        let listener = world.host.run(|| TcpListener::bind(SocketAddr::new(address, 0))).unwrap().unwrap();
        let there = listener.local_addr().unwrap();
        let mut before = world.target.run(|| TcpStream::connect(there)).unwrap().unwrap();
        let (_gate, mut wire) = world.wire(Direction::Out, &Duty::Reject, Backend::Best);
        let refused = world.target.run(|| TcpStream::connect(there)).unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        before.write_all(b"hello").unwrap();
        let reset = before.read(&mut [0; 10]).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        let (from, to) = (world.udp_in_target(target), world.udp_in_host(host));
        from.connect(to.local_addr().unwrap()).unwrap();
        from.send(b"hello").unwrap();
        assert_eq!(from.recv(&mut [0; 10]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        eventually(|| wire.counts().unwrap(), |counts| counts.sent >= 3);
    }
}

const HOLD: &str = "SNORKEL_TEST_HOLD_A_WIRE_IN";

#[test]
fn a_killed_process_takes_its_wires_with_it() {
    if let Some(path) = std::env::var_os(HOLD) {
        return hold(path.into());
    }
    let host = Netns::private().expect("this test makes network namespaces: run it as root");
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&host));
    let path = format!("/proc/{}/fd/{descriptor}", std::process::id());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_process_takes_its_wires_with_it", "--nocapture"])
        .env(HOLD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut output = child.stdout.take().unwrap();
    while !said.contains("it stands") {
        let mut buffer = [0; 256];
        let length = output.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "the child ended: {said}");
        said.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    let mut socket = Socket::open_in(&host).unwrap();
    assert_eq!(socket.links(None).unwrap().len(), 1 + 3);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually(|| socket.links(None).unwrap().len(), |links| *links == 1);
}

/// The child's part: makes wires, says so, and waits to be killed.
fn hold(path: PathBuf) {
    let host = Netns::open(&path).unwrap();
    let private = Netns::private().unwrap();
    let duties = [Duty::Impair(Impairment::default()), Duty::Impair(losing(0.5, 1)), Duty::Reject];
    let _wires = duties.map(|duty| Wire::make(&host, &private, &duty).unwrap());
    println!("it stands");
    loop {
        std::thread::park();
    }
}
