//! The programs' decisions on crafted frames (BPF_PROG_TEST_RUN), compared with the same decision taken in Rust. Needs
//! root.

use std::net::IpAddr;

use proptest::prelude::*;

use super::sample::Sample;
use super::*;

/// A gate whose rules count though it stands nowhere: frames are put before it by the test.
fn gate(rules: &[Rule]) -> Gate {
    let gate =
        Gate::load(rules, &[]).expect("this test loads programs: run it as root (CAP_BPF, CAP_NET_ADMIN)");
    gate.set_state(|state| state.armed = 1).unwrap();
    gate
}

fn ports(peer: Option<u16>, own: Option<u16>) -> Ports {
    Ports { peer, own }
}

fn net(text: &str) -> Network {
    text.parse().unwrap()
}

fn sample(direction: Direction, peer: &str, protocol: Protocol) -> Sample {
    Sample {
        peer: peer.parse().unwrap(),
        protocol: Some(protocol),
        peer_port: 80,
        own_port: 4000,
        ..Sample::of(&Rule { peers: vec![net(peer)], ..Rule::all(direction, Verdict::Drop) })
    }
}

const IP: usize = 14;

/// A program of somebody else's that says this of every packet.
fn strangers(says: i32) -> std::os::fd::OwnedFd {
    const SCHED_CLS: u32 = 3;
    sys::load(SCHED_CLS, 0, 0, says).unwrap()
}

/// Whether a datagram comes through the loopback of the calling thread's namespace.
fn arrives() -> bool {
    let to = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    to.set_nonblocking(true).unwrap();
    to.send_to(b"one", to.local_addr().unwrap()).unwrap();
    // On a loopback it is there, or lost, when the call that sent it comes back.
    to.recv(&mut [0; 8]).is_ok()
}

#[test]
fn programs_of_others_in_the_same_chain_stay_and_decide_on_what_passes() {
    use std::os::fd::AsFd;

    use crate::link::{Hook, Side};
    use crate::sys::Target;
    const INGRESS: u32 = 46;
    const DROP: i32 = 2;
    let netns = Netns::private().expect("this test makes a namespace: run it as root");
    let link = IfIndex::new(1).unwrap();
    let mut socket = snorkel_rtnl::Socket::open_in(&netns).unwrap();
    socket.set_up(link).unwrap();
    let at = AttachPoint { netns: &netns, link, inside: false, owner: "test" };
    let has_tcx = at.method().unwrap() == Method::Tcx;
    if let Ok(all) = std::env::var("SNORKEL_TEST_KERNEL_HAS") {
        assert_eq!(has_tcx, all.split(' ').any(|word| word == "tcx"), "{all}");
    }
    if !has_tcx {
        // Then nobody has such programs; filters of others have a test of their own.
        return;
    }
    let attach = |says| {
        let program = strangers(says);
        netns.run(|| sys::link(program.as_fd(), Target::Interface(1), INGRESS)).unwrap().unwrap()
    };
    let chain = || netns.run(|| Hook { link, side: Side::Ingress }.chain()).unwrap().unwrap().unwrap();
    let look = || netns.run(arrives).unwrap();
    let earlier = attach(NEXT);
    let before = chain();
    let mut gate = Gate::load(&[Rule::all(Direction::Out, Verdict::Drop)], &[]).unwrap();
    gate.attach(&at).unwrap();
    gate.verify().unwrap();
    assert!(!look(), "the gate stands first");
    assert_eq!(chain().links[1..], before.links);
    gate.disarm().unwrap();
    assert!(look());
    let later = attach(DROP);
    assert!(!look(), "what the gate lets pass another drops");
    let both = [before.links[0], chain().links[2]];
    drop(gate);
    assert_eq!(chain().links, both);
    assert!(!look());
    drop(later);
    assert!(look());
    assert_eq!(chain().links, before.links);
    drop(earlier);
}

/// Puts VLAN tags before what the frame carries.
fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], tags.as_flattened(), &frame[12..]].concat()
}

/// An IPv4 header with eight bytes of options.
fn with_options(frame: &[u8]) -> Vec<u8> {
    let mut frame = [&frame[..IP + 20], &[1; 8], &frame[IP + 20..]].concat();
    frame[IP] = 0x47;
    frame
}

/// An IPv6 header with extension headers behind it: types, and bytes without the field that names the next one.
fn with_extensions(frame: &[u8], extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let transport = frame[IP + 6];
    let (mut at, mut names) = (IP + 40, IP + 6);
    for (kind, bytes) in extensions {
        frame[names] = *kind;
        frame.splice(at..at, std::iter::once(transport).chain(bytes.iter().copied()));
        names = at;
        at += 1 + bytes.len();
    }
    frame
}

/// A fragment of IPv4: its offset in units of eight bytes, and whether more follow.
fn fragment4(frame: &[u8], id: u16, offset: u16, more: bool) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[IP + 4..IP + 6].copy_from_slice(&id.to_be_bytes());
    frame[IP + 6..IP + 8].copy_from_slice(&(u16::from(more) << 13 | offset).to_be_bytes());
    middle(frame, IP + 20, offset)
}

/// A fragment of IPv6.
fn fragment6(frame: &[u8], id: u32, offset: u16, more: bool) -> Vec<u8> {
    let mut header = vec![0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend(id.to_be_bytes());
    middle(with_extensions(frame, &[(44, header)]), IP + 48, offset)
}

/// Of a later fragment, the transport header is not there: what is there reads as port 0.
fn middle(mut frame: Vec<u8>, at: usize, offset: u16) -> Vec<u8> {
    if offset > 0 {
        frame[at..].fill(0);
    }
    frame
}

#[track_caller]
fn rule_of(gate: &Gate, direction: Direction, frame: &[u8]) -> Option<usize> {
    gate.run(direction, frame).unwrap().rule
}

#[test]
fn tags_options_and_extension_headers_are_looked_through() {
    for direction in Direction::ALL {
        let to_port = Rule { ports: ports(Some(80), None), ..Rule::all(direction, Verdict::Drop) };
        let gate = gate(&[to_port]);
        let (v4, v6) = (
            sample(direction, "10.0.0.1", Protocol::Tcp).frame(),
            sample(direction, "fd00::1", Protocol::Udp).frame(),
        );
        let (inner, outer) = ([0x81, 0, 0, 5], [0x88, 0xa8, 0, 7]);
        // Eight bytes each; the authentication header counts its length differently.
        let extensions: [(u8, Vec<u8>); 4] = [
            (0, vec![0, 1, 4, 0, 0, 0, 0]),
            (60, vec![1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (43, vec![0; 7]),
            (51, [&[4u8][..], &[0; 22]].concat()),
        ];
        for frame in [
            v4.clone(),
            v6.clone(),
            tagged(&v4, &[inner]),
            tagged(&v6, &[outer, inner]),
            with_options(&v4),
            tagged(&with_options(&v4), &[outer, inner]),
            with_extensions(&v6, &extensions),
            with_extensions(&v6, &vec![extensions[0].clone(); 7]),
            with_extensions(&v6, &[(44, vec![0; 7])]),
        ] {
            assert_eq!(rule_of(&gate, direction, &frame), Some(0), "{frame:02x?}");
        }
        let too_deep = with_extensions(&v6, &vec![extensions[0].clone(); 9]);
        assert_eq!(rule_of(&gate, direction, &too_deep), None);
        assert_eq!(rule_of(&gate, direction, &tagged(&v4, &[outer, outer, inner])), None);
        // Behind a tag the kernel does not look whether what it is given is whole.
        let v4 = tagged(&v4, &[inner]);
        for length in 19..v4.len() - 6 {
            let cut = rule_of(&gate, direction, &v4[..length]);
            assert_eq!(cut, None, "cut at {length}: its ports are not whole, or its flags");
        }
    }
}

#[test]
fn what_asks_for_nothing_matches_what_is_not_ip() {
    let mut arp = vec![0xff; 12];
    arp.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(60, 0);
    let all = gate(&[Rule::all(Direction::Out, Verdict::Drop)]);
    assert_eq!(rule_of(&all, Direction::Out, &arp), Some(0));
    assert_eq!(rule_of(&all, Direction::In, &arp), None, "there is no rule for what comes in");
    for asking in [
        Rule { peers: vec![net("0.0.0.0/0"), net("::/0")], ..Rule::all(Direction::Out, Verdict::Drop) },
        Rule { protocol: Some(Protocol::Icmp), ..Rule::all(Direction::Out, Verdict::Drop) },
        Rule { opening: true, ..Rule::all(Direction::Out, Verdict::Drop) },
    ] {
        assert_eq!(rule_of(&gate(&[asking]), Direction::Out, &arp), None);
    }
}

#[test]
fn later_fragments_go_the_way_of_the_first() {
    for (peer, fragment) in [
        (
            "10.0.0.1",
            (|frame, id, offset, more| fragment4(frame, id, offset, more)) as fn(&[u8], u16, u16, bool) -> _,
        ),
        ("fd00::1", |frame, id, offset, more| fragment6(frame, id.into(), offset, more)),
    ] {
        for direction in Direction::ALL {
            let other = Rule { ports: ports(Some(443), None), ..Rule::all(direction, Verdict::Pass) };
            let by_port = Rule { ports: ports(Some(80), None), ..Rule::all(direction, Verdict::Drop) };
            let by_peer = Rule { peers: vec![net(peer)], ..Rule::all(direction, Verdict::Pass) };
            let gate = gate(&[other, by_port, by_peer]);
            let frame = sample(direction, peer, Protocol::Udp).frame();
            let decide = |id, offset, more| rule_of(&gate, direction, &fragment(&frame, id, offset, more));
            assert_eq!(decide(1, 2, false), Some(2), "its first fragment was not seen: no port is known");
            assert_eq!(decide(1, 0, true), Some(1));
            assert_eq!(decide(1, 2, true), Some(1));
            assert_eq!(decide(1, 4, false), Some(1));
            assert_eq!(decide(2, 4, false), Some(2), "another datagram");
            let mut elsewhere = sample(direction, peer, Protocol::Udp);
            elsewhere.own = if peer.contains(':') { "fd00::9" } else { "10.0.0.9" }.parse().unwrap();
            let later = fragment(&elsewhere.frame(), 1, 2, false);
            assert_eq!(rule_of(&gate, direction, &later), Some(2), "another pair of ends");
        }
    }
}

#[test]
fn only_a_pure_syn_opens() {
    let opening = Rule { opening: true, ..Rule::all(Direction::In, Verdict::Drop) };
    let gate = gate(&[opening]);
    for peer in ["10.0.0.1", "fd00::1"] {
        let mut tcp = sample(Direction::In, peer, Protocol::Tcp);
        for (flag, expected) in [(true, Some(0)), (false, None)] {
            tcp.opening = flag;
            assert_eq!(rule_of(&gate, Direction::In, &tcp.frame()), expected);
        }
    }
}

#[test]
fn a_probe_is_not_counted_and_a_gate_at_rest_decides_nothing() {
    let gate = gate(&[Rule::all(Direction::Out, Verdict::Drop)]);
    let frame = sample(Direction::Out, "10.0.0.1", Protocol::Tcp).frame();
    assert_eq!(gate.run(Direction::Out, &frame).unwrap(), Decision { rule: Some(0), returned: 2 });
    assert_eq!(gate.counts().unwrap(), [RuleCount::default()]);
    gate.set_state(|state| state.armed = 0).unwrap();
    assert_eq!(gate.run(Direction::Out, &frame).unwrap(), Decision { rule: None, returned: NEXT });
}

#[test]
fn marks_tell_which_gate_has_had_a_packet() {
    const MARK: u32 = 0x534e_0000;
    let gate = gate(&[Rule::all(Direction::Out, Verdict::Drop)]);
    let frame = sample(Direction::Out, "10.0.0.1", Protocol::Tcp).frame();
    let run = |rank: u32, mark: u32| {
        gate.set_state(|state| state.rank = [rank, 0]).unwrap();
        let run = sys::run(gate.object.program("gate_out").unwrap(), &frame, mark).unwrap();
        (run.verdict, run.mark)
    };
    const SHOT: i32 = 2;
    assert_eq!(run(7, MARK | 7), (NEXT, 0), "its own: it has been through the wire");
    assert_eq!(run(7, MARK | 6), (NEXT, MARK | 6), "an older gate's: it keeps its mark");
    assert_eq!(run(7, MARK | 8), (SHOT, 0), "of a newer gate, which is gone: it is fresh");
    assert_eq!(run(7, 0), (SHOT, 0));
    assert_eq!(run(7, 0x534d_0007), (SHOT, 0x534d_0007), "somebody else's mark");
    // The revision outgrew 16 bits between the two.
    assert_eq!(run(0x1_0001, MARK | 0xfffe), (NEXT, MARK | 0xfffe));
    assert_eq!(run(0xfffe, MARK | 1), (SHOT, 0));
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_loaded() {
    let one = Rule::all(Direction::Out, Verdict::Drop);
    let refused = |rules: &[Rule]| matches!(Gate::load(rules, &[]), Err(Error::Invalid { .. }));
    assert!(refused(&vec![one.clone(); MAX_RULES + 1]));
    assert!(refused(&[Rule { verdict: Verdict::Wire(WireNumber(0)), ..one.clone() }]));
    assert!(refused(&[Rule { protocol: Some(Protocol::Icmp), ports: ports(Some(1), None), ..one.clone() }]));
    assert!(refused(&[Rule { protocol: Some(Protocol::Udp), opening: true, ..one.clone() }]));
    let mapped = Network { address: "::ffff:10.0.0.1".parse().unwrap(), prefix: 128 };
    assert!(refused(&[Rule { peers: vec![mapped], ..one.clone() }]));
    assert!(refused(&[Rule { peers: vec![Network { prefix: 33, ..net("10.0.0.0/8") }], ..one }]));
}

/// Few addresses and ports, so that rules and packets meet.
fn address() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.128.0.1", "fd00::1", "fd00::2", "fd80::1"])
        .prop_map(|text| text.parse().unwrap())
}

fn network() -> impl Strategy<Value = Network> {
    (address(), prop::sample::select(vec![0u8, 1, 8, 9, 30, 31, 32, 127, 128]))
        .prop_map(|(address, prefix)| Network { address, prefix: prefix.min(Network::bits(address)) })
}

fn direction() -> impl Strategy<Value = Direction> {
    prop::sample::select(Direction::ALL.to_vec())
}

fn protocol() -> impl Strategy<Value = Option<Protocol>> {
    prop::sample::select(vec![None, Some(Protocol::Tcp), Some(Protocol::Udp), Some(Protocol::Icmp)])
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![80u16, 443, 0])
}

prop_compose! {
    fn any_rule()(
        direction in direction(),
        peers in prop::collection::vec(network(), 0..3),
        protocol in protocol(),
        peer in prop::option::of(port()),
        own in prop::option::of(port()),
        opening in prop::bool::weighted(0.2),
        drop: bool,
    ) -> Rule {
        let has_ports = protocol != Some(Protocol::Icmp);
        Rule {
            direction,
            peers,
            protocol,
            ports: if has_ports { Ports { peer, own } } else { Ports::default() },
            opening: opening && matches!(protocol, None | Some(Protocol::Tcp)),
            verdict: if drop { Verdict::Drop } else { Verdict::Pass },
        }
    }
}

prop_compose! {
    fn any_sample()(
        direction in direction(),
        peer in address(),
        protocol in protocol(),
        peer_port in port(),
        own_port in port(),
        opening: bool,
    ) -> Sample {
        let rule = Rule { peers: vec![peer.into()], ..Rule::all(direction, Verdict::Drop) };
        Sample { protocol, peer_port, own_port, opening, ..Sample::of(&rule) }
    }
}

proptest! {
    // To load a gate takes long; many packets are tried on each.
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_programs_decide_as_the_rules_say(
        rules in prop::collection::vec(any_rule(), 0..24),
        samples in prop::collection::vec(any_sample(), 300),
    ) {
        let fits = Direction::ALL.iter().all(|direction| {
            rules.iter().filter(|rule| rule.direction == *direction).count() <= MAX_RULES
        });
        prop_assume!(fits);
        let gate = gate(&rules);
        for sample in samples {
            prop_assert!(gate.try_out(&sample).is_ok(), "{:?}", gate.try_out(&sample));
        }
    }

    #[test]
    fn no_bytes_are_taken_for_a_packet_that_they_are_not(
        payloads in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..200)), 200),
    ) {
        let ports = ports(Some(1), Some(2));
        let asking = Rule { ports, peers: vec![net("10.0.0.1/32")], ..Rule::all(Direction::Out, Verdict::Drop) };
        let gate = gate(&[asking]);
        for (v4, payload) in payloads {
            let kind = if v4 { [0x08, 0x00] } else { [0x86, 0xdd] };
            let frame = [&[2; 12], &[0x81, 0, 0, 5][..], &kind, &payload].concat();
            prop_assert_eq!(rule_of(&gate, Direction::Out, &frame), None);
        }
    }
}
