//! One ring on a real link: what is sent is there, once, whole, with its direction and its tags. Needs root.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::Command;

use common::{
    AtTheEnd, Kept, Over, Pair, Sender, Story, finish, frame, number_of, only_ours, private, ring, until,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use snorkel_capture::ring::{Budget, Error, Link, LinkState, Ring, Session, Settings};
use snorkel_capture::{Direction, LinkType};
use snorkel_netns::Netns;
use snorkel_rtnl::IfIndex;

#[test]
fn every_packet_is_there_once_in_order_with_its_direction_at_both_ends() {
    let pair = Pair::new();
    let mut session = Session::new().unwrap();
    let near = session.add(ring(&pair.a, "eth0")).unwrap();
    let far = session.add(ring(&pair.b, "eth0")).unwrap();
    let (from_a, from_b) = (Sender::new(&pair.a, "eth0"), Sender::new(&pair.b, "eth0"));
    for number in 0..1000 {
        from_a.send(&frame(number, &[], 60 + number as usize));
        if number % 2 == 0 {
            from_b.send(&frame(10_000 + number, &[], 1500));
        }
    }
    let mut story = Story::default();
    finish(&mut session, &mut story);

    for (ring, sent_by_a, sent_by_b) in
        [(near, Direction::Outbound, Direction::Inbound), (far, Direction::Inbound, Direction::Outbound)]
    {
        let ours = story.ours(ring);
        let (of_a, of_b): (Vec<&Kept>, Vec<&Kept>) =
            ours.iter().partition(|p| number_of(&p.data).unwrap() < 10_000);
        assert_eq!((of_a.len(), of_b.len()), (1000, 500));
        for (number, packet) in (0..).zip(of_a) {
            assert_eq!(packet.data, frame(number, &[], 60 + number as usize));
            assert_eq!(packet.original_length as usize, packet.data.len());
            assert_eq!(packet.direction, Some(sent_by_a));
        }
        for (number, packet) in (10_000..).step_by(2).zip(of_b) {
            assert_eq!(number_of(&packet.data), Some(number));
            assert_eq!(packet.direction, Some(sent_by_b));
        }
        assert_eq!(story.ledger(ring).dropped, 0);
    }
}

#[test]
fn a_ring_knows_its_link() {
    let mut pair = Pair::new();
    let index = pair.at_a.index_of("eth0").unwrap().unwrap();
    let by_name = ring(&pair.a, "eth0");
    let by_index =
        Ring::open(&pair.a, Link::Index(index), &Settings { bytes: 0, ..Settings::default() }).unwrap();
    for ring in [&by_name, &by_index] {
        assert_eq!((ring.index(), ring.name(), ring.link_type()), (index, "eth0", LinkType::ETHERNET));
        let links = pair.at_a.links(None).unwrap();
        let mac = links.iter().find(|l| l.index == index).unwrap().mac.clone().unwrap();
        let shown: Vec<String> = ring.mac().unwrap().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(shown.join(":"), mac.to_string());
    }
    assert_eq!((by_name.bytes(), by_index.bytes()), (4 << 20, Budget::LEAST));
    assert!(!by_name.shrunk());
}

#[test]
fn a_link_that_is_not_there_is_an_error_that_names_it() {
    let (netns, _) = private();
    for link in [
        Link::Name("eth7"),
        Link::Name(""),
        Link::Name("a-name-that-no-link-can-have"),
        Link::Name("e\0h"),
        Link::Index(IfIndex::new(4711).unwrap()),
    ] {
        let error = Ring::open(&netns, link, &Settings::default()).unwrap_err();
        assert!(matches!(error, Error::NoLink { .. }), "{link}: {error}");
    }
}

#[test]
fn without_the_right_to_it_the_error_says_which_is_missing() {
    let (netns, _) = private();
    let opened = netns.run(|| {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).unwrap();
        Ring::open_here(Link::Name("lo"), &Settings::default())
    });
    let error = opened.unwrap().unwrap_err();
    assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
}

#[test]
fn vlan_tags_are_where_they_were_on_the_wire() {
    let pair = Pair::new();
    let mut session = Session::new().unwrap();
    let near = session.add(ring(&pair.a, "eth0")).unwrap();
    let far = session.add(ring(&pair.b, "eth0")).unwrap();
    let sender = Sender::new(&pair.a, "eth0");
    let sent: Vec<Vec<u8>> =
        [&[(0x8100, 5)][..], &[(0x8100, 0xe000 | 4094)], &[(0x88a8, 7), (0x8100, 9)], &[(0x8100, 0)]]
            .iter()
            .zip(0..)
            .map(|(tags, number)| frame(number, tags, 80))
            .collect();
    for frame in &sent {
        sender.send(frame);
    }
    let mut story = Story::default();
    finish(&mut session, &mut story);
    for ring in [near, far] {
        let seen: Vec<_> = story
            .packets
            .iter()
            .filter(|p| p.interface == ring && sent.contains(&p.data))
            .map(|p| (p.data.clone(), p.original_length))
            .collect();
        let wanted: Vec<_> = sent.iter().map(|frame| (frame.clone(), 80)).collect();
        assert_eq!(seen, wanted, "ring {ring}: {:#?}", story.packets);
    }
}

#[test]
fn a_snaplen_cuts_packets_and_their_length_is_still_told() {
    let pair = Pair::new();
    let settings = Settings { snaplen: 96, bytes: 4 << 20, ..Settings::default() };
    let filtered = only_ours();
    let mut session = Session::new().unwrap();
    let plain = session.add(Ring::open(&pair.b, Link::Name("eth0"), &settings).unwrap()).unwrap();
    let settings = Settings { filter: Some(&filtered), ..settings };
    let with_filter = session.add(Ring::open(&pair.b, Link::Name("eth0"), &settings).unwrap()).unwrap();
    let sender = Sender::new(&pair.a, "eth0");
    let tagged = frame(4, &[(0x8100, 5)], 1000);
    for frame in [frame(1, &[], 96), frame(2, &[], 97), frame(3, &[], 1514), tagged.clone()] {
        sender.send(&frame);
    }
    let mut story = Story::default();
    finish(&mut session, &mut story);
    for ring in [plain, with_filter] {
        let seen: Vec<_> = story.ours(ring).iter().map(|p| (p.original_length, p.data.clone())).collect();
        let cut = |number, length| (length as u32, frame(number, &[], length)[..96].to_vec());
        assert_eq!(seen, [cut(1, 96), cut(2, 97), cut(3, 1514)]);
    }
    let with_tag = story.packets.iter().find(|p| p.interface == plain && p.data == tagged[..96]);
    assert_eq!(with_tag.map(|p| p.original_length), Some(1000), "{:#?}", story.packets);
    // A filter sees the frame as the kernel has it, the tag beside the bytes.
    let ledger = story.ledger(with_filter);
    assert_eq!((ledger.delivered, ledger.truncated, ledger.clamped), (4, 3, 0), "{ledger:?}");
}

#[test]
fn only_the_wanted_direction() {
    let pair = Pair::new();
    let open = |direction| {
        let settings = Settings { direction: Some(direction), bytes: 1 << 20, ..Settings::default() };
        Ring::open(&pair.a, Link::Name("eth0"), &settings).unwrap()
    };
    let mut session = Session::new().unwrap();
    let incoming = session.add(open(Direction::Inbound)).unwrap();
    let outgoing = session.add(open(Direction::Outbound)).unwrap();
    Sender::new(&pair.a, "eth0").send(&frame(1, &[], 60));
    Sender::new(&pair.b, "eth0").send(&frame(2, &[], 60));
    let mut story = Story::default();
    finish(&mut session, &mut story);
    let numbers = |ring| {
        story.ours(ring).iter().map(|p| (number_of(&p.data).unwrap(), p.direction)).collect::<Vec<_>>()
    };
    assert_eq!(numbers(incoming), [(2, Some(Direction::Inbound))]);
    assert_eq!(numbers(outgoing), [(1, Some(Direction::Outbound))]);
}

#[test]
fn on_the_loopback_each_packet_is_seen_once() {
    let (netns, mut socket) = private();
    socket.set_up(IfIndex::new(1).unwrap()).unwrap();
    let mut session = Session::new().unwrap();
    let lo = session.add(ring(&netns, "lo")).unwrap();
    let sent: Vec<u16> = netns
        .run(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port();
            for _ in 0..100 {
                socket.send_to(b"hello", ("127.0.0.1", port)).unwrap();
            }
            vec![port; 100]
        })
        .unwrap();
    let mut story = Story::default();
    finish(&mut session, &mut story);
    let ports: Vec<u16> = story
        .packets
        .iter()
        .filter(|p| p.data[12..14] == [8, 0])
        .map(|p| u16::from_be_bytes([p.data[36], p.data[37]]))
        .collect();
    assert_eq!(ports, sent);
    assert!(story.packets.iter().all(|p| p.direction == Some(Direction::Inbound)));
    assert_eq!(story.ledger(lo).delivered, 100);
}

#[test]
fn nothing_unfiltered_slips_in_while_a_ring_is_opened_amid_traffic() {
    let pair = Pair::new();
    let filter = only_ours();
    let over = Over::default();
    std::thread::scope(|scope| {
        let _end = AtTheEnd(&over);
        scope.spawn(|| {
            let sender = Sender::new(&pair.a, "eth0");
            let mut other = frame(0, &[], 200);
            other[13] = 0xb6;
            while !over.yet() {
                for _ in 0..20 {
                    sender.send(&other);
                }
                sender.send(&frame(1, &[], 200));
            }
        });
        for _ in 0..30 {
            let settings = Settings { filter: Some(&filter), bytes: Budget::LEAST, ..Settings::default() };
            let ring = Ring::open(&pair.b, Link::Name("eth0"), &settings).unwrap();
            let mut session = Session::new().unwrap();
            let id = session.add(ring).unwrap();
            let mut story = Story::default();
            until(&mut session, &mut story, |story| !story.packets.is_empty());
            finish(&mut session, &mut story);
            assert_eq!(story.ours(id).len(), story.packets.len());
        }
    });
}

#[test]
fn what_does_not_fit_is_counted_to_the_last_packet() {
    let pair = Pair::new();
    let filter = only_ours();
    let settings = Settings { filter: Some(&filter), bytes: Budget::LEAST, ..Settings::default() };
    let mut session = Session::new().unwrap();
    let id = session.add(Ring::open(&pair.b, Link::Name("eth0"), &settings).unwrap()).unwrap();
    let sender = Sender::new(&pair.a, "eth0");
    // Nobody reads meanwhile.
    for number in 0..2000 {
        sender.send(&frame(number, &[], 1000));
    }
    let mut story = Story::default();
    finish(&mut session, &mut story);
    let ledger = story.ledger(id);
    assert_eq!(ledger.received, 2000, "{ledger:?}");
    assert!(ledger.dropped > 1000 && ledger.full > 0, "{ledger:?}");
    // What fitted is the beginning, without a gap.
    let numbers: Vec<u32> = story.packets.iter().filter_map(|p| number_of(&p.data)).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u32));
}

#[test]
fn a_link_goes_down_and_up_and_away_while_another_goes_on() {
    let mut pair = Pair::new();
    let other = Pair::new();
    let mut session = Session::new().unwrap();
    let first = session.add(ring(&pair.a, "eth0")).unwrap();
    let second = session.add(ring(&other.a, "eth0")).unwrap();
    let mut story = Story::default();
    let (sender, elsewhere) = (Sender::new(&pair.a, "eth0"), Sender::new(&other.a, "eth0"));
    let index = pair.at_a.index_of("eth0").unwrap().unwrap();

    sender.send(&frame(1, &[], 60));
    until(&mut session, &mut story, |story| story.ours(first).len() == 1);
    pair.at_a.set_down(index).unwrap();
    until(&mut session, &mut story, |story| story.links == [(first, LinkState::Down)]);
    elsewhere.send(&frame(2, &[], 60));
    until(&mut session, &mut story, |story| story.ours(second).len() == 1);

    pair.at_a.set_up(index).unwrap();
    sender.send(&frame(3, &[], 60));
    until(&mut session, &mut story, |story| story.ours(first).len() == 2);
    assert_eq!(story.links, [(first, LinkState::Down), (first, LinkState::Up)]);

    sender.send(&frame(4, &[], 60));
    pair.at_a.remove(index).unwrap();
    until(&mut session, &mut story, |story| !story.ledgers.is_empty());
    assert_eq!(story.links.last(), Some(&(first, LinkState::Gone)));
    assert_eq!(story.ledgers[0].0, first);
    // What had been sent before is there.
    assert_eq!(story.ours(first).len(), 3);

    elsewhere.send(&frame(5, &[], 60));
    until(&mut session, &mut story, |story| story.ours(second).len() == 2);
    finish(&mut session, &mut story);
    assert_eq!(story.links.len(), 3);
}

#[test]
fn a_link_that_is_down_can_be_opened_and_captured_when_it_comes_up() {
    let mut pair = Pair::new();
    let index = pair.at_a.index_of("eth0").unwrap().unwrap();
    pair.at_a.set_down(index).unwrap();
    let mut session = Session::new().unwrap();
    let id = session.add(ring(&pair.a, "eth0")).unwrap();
    let mut story = Story::default();
    until(&mut session, &mut story, |story| story.links == [(id, LinkState::Down)]);
    pair.at_a.set_up(index).unwrap();
    Sender::new(&pair.a, "eth0").send(&frame(1, &[], 60));
    until(&mut session, &mut story, |story| story.ours(id).len() == 1);
    finish(&mut session, &mut story);
}

#[test]
fn a_namespace_without_processes_lives_as_long_as_its_ring_and_not_longer() {
    let (host, mut at_host) = private();
    let (container, mut at_container) = private();
    let outside = at_host.add_veth("veth1", "eth0", Some(&container)).unwrap();
    let inside = at_container.index_of("eth0").unwrap().unwrap();
    at_host.set_up(outside).unwrap();
    at_container.set_up(inside).unwrap();
    let mut session = Session::new().unwrap();
    let id = session.add(ring(&container, "eth0")).unwrap();
    drop((container, at_container));

    Sender::new(&host, "veth1").send(&frame(1, &[], 60));
    let mut story = Story::default();
    until(&mut session, &mut story, |story| story.ours(id).len() == 1);
    assert_eq!(at_host.index_of("veth1").unwrap(), Some(outside));
    finish(&mut session, &mut story);
    // The kernel takes it away in its own time.
    while at_host.index_of("veth1").unwrap().is_some() {
        std::thread::yield_now();
    }
}

/// A link of the kind that a tunnel's program makes (the kernel's Documentation/networking/tuntap.rst).
fn tun(netns: &Netns, kind: u16) -> File {
    const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
    const TUNSETLINK: libc::Ioctl = 0x4004_54cd;
    let make = || {
        let file = File::options().read(true).write(true).open("/dev/net/tun").expect("/dev/net/tun");
        // SAFETY: the kernel reads and writes one request, and reads one number.
        unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(b"tun0") {
                *to = *from as libc::c_char;
            }
            request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as i16;
            assert_eq!(libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request), 0);
            assert_eq!(libc::ioctl(file.as_raw_fd(), TUNSETLINK, libc::c_ulong::from(kind)), 0);
        }
        file
    };
    netns.run(make).unwrap()
}

/// An IPv4 packet with nothing in it, of a protocol that nobody has.
fn datagram() -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 24, 0, 1, 0, 0, 64, 253, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend([1, 2, 3, 4]);
    packet
}

#[test]
fn a_link_without_headers_gives_packets_from_the_network_header_on() {
    let (netns, mut socket) = private();
    let mut tun = tun(&netns, libc::ARPHRD_NONE);
    let index = socket.index_of("tun0").unwrap().unwrap();
    socket.set_up(index).unwrap();
    let mut session = Session::new().unwrap();
    let ring = ring(&netns, "tun0");
    assert_eq!((ring.link_type(), ring.mac()), (LinkType::RAW, None));
    session.add(ring).unwrap();
    tun.write_all(&datagram()).unwrap();
    let mut story = Story::default();
    finish(&mut session, &mut story);
    let seen: Vec<_> = story.packets.iter().filter(|p| p.direction == Some(Direction::Inbound)).collect();
    assert_eq!(seen.len(), 1, "{:#?}", story.packets);
    assert_eq!((&seen[0].data, seen[0].original_length), (&datagram(), 24));
}

#[test]
fn a_link_of_an_odd_kind_gives_cooked_packets_and_filters_mean_the_cooked_header() {
    let (netns, mut socket) = private();
    let mut tun = tun(&netns, libc::ARPHRD_PPP);
    let index = socket.index_of("tun0").unwrap().unwrap();
    socket.set_up(index).unwrap();
    // ip and ip proto 253, as it is said of LINUX_SLL2.
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        instruction(0x28, 0, 0, 0),
        instruction(0x15, 0, 3, 0x800),
        instruction(0x30, 0, 0, 29),
        instruction(0x15, 0, 1, 253),
        instruction(0x06, 0, 0, 262_144),
        instruction(0x06, 0, 0, 0),
    ];
    let mut session = Session::new().unwrap();
    let settings = Settings { filter: Some(&filter), snaplen: 40, bytes: 1 << 20, ..Settings::default() };
    let ring = Ring::open(&netns, Link::Name("tun0"), &settings).unwrap();
    assert_eq!(ring.link_type(), LinkType::LINUX_SLL2);
    session.add(ring).unwrap();
    let mut other = datagram();
    other[9] = 254;
    tun.write_all(&other).unwrap();
    tun.write_all(&datagram()).unwrap();
    let mut story = Story::default();
    finish(&mut session, &mut story);
    let mut wanted = vec![8, 0, 0, 0];
    wanted.extend(index.get().to_be_bytes());
    // PPP, for us, no address.
    wanted.extend([2, 0, 0, 0]);
    wanted.extend([0; 8]);
    wanted.extend(datagram());
    wanted.truncate(40);
    assert_eq!(story.packets.len(), 1, "{:#?}", story.packets);
    assert_eq!((&story.packets[0].data, story.packets[0].original_length), (&wanted, 44));
    assert_eq!(story.ledgers[0].1.truncated, 1);
}

#[test]
fn where_there_is_no_room_for_the_whole_ring_a_smaller_one_is_made() {
    // The limit holds for a whole process, so it is another one that has it: this test, by itself.
    const INSIDE: &str = "SNORKEL_TEST_WITH_LITTLE_MEMORY";
    let mebibyte = 1u64 << 20;
    if std::env::var_os(INSIDE).is_none() {
        let name = "where_there_is_no_room_for_the_whole_ring_a_smaller_one_is_made";
        let program = std::env::current_exe().unwrap();
        let run = Command::new(program).args(["--exact", name]).env(INSIDE, "1").output().unwrap();
        let told = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && told.contains("1 passed"), "{run:?}");
        return;
    }
    let pair = Pair::new();
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
    // Room for the thread that opens it, and for a part of the ring.
    let limit = Some(pages * 4096 + 80 * mebibyte);
    setrlimit(Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    let settings = Settings { bytes: 256 << 20, ..Settings::default() };
    let ring = Ring::open(&pair.b, Link::Name("eth0"), &settings).unwrap();
    assert!(ring.shrunk(), "{} bytes", ring.bytes());
    assert!((Budget::LEAST..256 << 20).contains(&ring.bytes()));

    let mut session = Session::new().unwrap();
    let id = session.add(ring).unwrap();
    let sender = Sender::new(&pair.a, "eth0");
    for number in 0..100 {
        sender.send(&frame(number, &[], 60));
    }
    let mut story = Story::default();
    finish(&mut session, &mut story);
    assert_eq!(story.ours(id).len(), 100);
}
