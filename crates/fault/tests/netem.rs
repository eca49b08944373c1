//! netem in a wire, with kernels that have it, does what the emulation says. Needs root.
//!
//! A kernel without netem has to say so. One that is told to have it (`make test-kernels` knows which have) has to use it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of a test fail as the test does")]

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{HOST4, TARGET4, World, eventually};
use rustix::net::{AddressFamily, SocketType};
use snorkel_bpf::gate::{Direction, Gate, Method};
use snorkel_fault::emulation::{Emulation, Fate, Moment, Packet};
use snorkel_fault::wire::{Backend, Duty, Wire};
use snorkel_fault::{Chance, Distribution, Impairment, Likely, Loss, Reorder};
use snorkel_rtnl::{IfIndex, Netem, Socket};

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
    gate: Gate,
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

#[test]
fn who_damages_what_another_wire_has_let_go_is_not_believed() {
    // The newer wire comes first. What leaves it has been proved by whoever joins segments.
    let damaging = Impairment { corrupt: likely(1.0), ..Impairment::default() };
    let Some(older) = Impaired::by(&damaging) else { return };
    let late = Impairment { delay: Duration::from_millis(1), ..Impairment::default() };
    let (newer, _wire) = older.world.wire(Direction::Out, &Duty::Impair(late), Backend::Best);
    let (from, to) = (older.world.udp_in_target(TARGET4), older.world.udp_in_host(HOST4));
    for _ in 0..COUNT {
        from.send_to(&[7; 1000], to.local_addr().unwrap()).unwrap();
    }
    for gate in [&newer, &older.gate] {
        eventually(|| gate.wire_counts().unwrap()[0].returned, |returned| *returned == u64::from(COUNT));
    }
    // No check sum covers the link's addresses: of what is damaged there, some comes.
    to.set_nonblocking(true).unwrap();
    let come = (0..).take_while(|_| to.recv(&mut [0; 2000]).is_ok()).count();
    assert!(come < COUNT as usize / 10, "{come}");
}

/// A super-packet of so many TCP segments of IPv4, with what stands before it for whoever is to cut it (`struct virtio_net_hdr`
/// of linux/virtio_net.h).
fn super_packet(to: &[u8], segments: u16) -> Vec<u8> {
    const PAYLOAD: u16 = 100;
    let addresses = [10, 0, 0, 2, 10, 0, 0, 1];
    let tcp = 20 + segments * PAYLOAD;
    // In the place of TCP's sum stands that of the pseudo-header (RFC 9293 3.1); the sum of IP is made when it is cut.
    let words = addresses.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.sum::<u32>() + 6 + u32::from(tcp);
    let sum = (sum & 0xffff) + (sum >> 16);
    let mut bytes = vec![1, 1];
    bytes.extend([54, PAYLOAD, 34, 16].iter().flat_map(|number: &u16| number.to_ne_bytes()));
    bytes.extend(to);
    bytes.extend([2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0]);
    bytes.extend((20 + tcp).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(addresses);
    bytes.extend([1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff]);
    // Once folded it fits.
    bytes.extend((sum as u16).to_be_bytes());
    bytes.resize(bytes.len() + 2 + usize::from(segments * PAYLOAD), 0);
    bytes
}

/// Sends what stands before a packet and the packet out of a link of the calling thread's namespace, through its queue.
fn send_raw(link: IfIndex, bytes: &[u8]) {
    let socket = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None).unwrap();
    let on: libc::c_int = 1;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: an address is plain numbers, and zeroes are one.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as libc::c_ushort;
    to.sll_ifindex = link.get() as libc::c_int;
    to.sll_protocol = 0x0800u16.to_be();
    // SAFETY: the kernel reads no more than it is told of: the number, the bytes, the address.
    let sent = unsafe {
        const PACKET_VNET_HDR: libc::c_int = 15;
        let (level, size) = (libc::SOL_PACKET, size_of_val(&on) as libc::socklen_t);
        assert_eq!(libc::setsockopt(descriptor, level, PACKET_VNET_HDR, (&raw const on).cast(), size), 0);
        let size = size_of_val(&to) as libc::socklen_t;
        libc::sendto(descriptor, bytes.as_ptr().cast(), bytes.len(), 0, (&raw const to).cast(), size)
    };
    assert_eq!(sent, bytes.len() as isize, "{}", std::io::Error::last_os_error());
}

#[test]
fn what_netem_lets_go_at_once_comes_back_whole_and_joined_where_the_kernel_can() {
    // More than the ring of a veth holds, and none of it can be taken out while they are put in: they are cut in one go.
    const SEGMENTS: u16 = 600;
    let late = Impairment { delay: Duration::from_millis(1), ..Impairment::default() };
    let Some(Impaired { world, gate, wire, .. }) = Impaired::by(&late) else { return };
    let links = Socket::open_in(&world.host).unwrap().links(None).unwrap();
    let port = links.into_iter().find(|link| link.index == world.port).unwrap().mac.unwrap();
    // Whether or not the wire has done so: the packet is to be cut.
    Socket::open_in(&world.private).unwrap().turn_offloads_off(wire.private()).unwrap();
    let before = world.received();
    world.private.run(|| send_raw(wire.private(), &super_packet(port.as_bytes(), SEGMENTS))).unwrap();
    eventually(|| gate.wire_counts().unwrap()[0].returned, |returned| *returned == u64::from(SEGMENTS));
    // Whoever comes behind them has come when they have.
    let (from, to) = (world.udp_in_target(TARGET4), world.udp_in_host(HOST4));
    from.send_to(&[7; 100], to.local_addr().unwrap()).unwrap();
    numbers(&to, 1);
    let received = world.received() - before;
    if let Some(joins) = said_to_have("joins") {
        assert_eq!(received < u64::from(SEGMENTS) / 4, joins, "{received} packets");
    }
}
