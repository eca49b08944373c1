//! Packets of every kind that a filter can ask about, made from scratch.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const MAC_A: [u8; 6] = [0x02, 0x42, 0xac, 0x11, 0x00, 0x02];
pub(crate) const MAC_B: [u8; 6] = [0x02, 0x42, 0xac, 0x11, 0x00, 0x03];
const BROADCAST: [u8; 6] = [0xff; 6];

pub(crate) fn v4(a: u8, b: u8, c: u8, d: u8) -> [u8; 4] {
    Ipv4Addr::new(a, b, c, d).octets()
}

fn v6(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn ethernet(dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    joined(&[&dst, &src, &ethertype.to_be_bytes(), payload])
}

fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(MAC_B, MAC_A, ethertype, payload)
}

/// An 802.3 frame: the type field is the length.
fn framed(payload: &[u8]) -> Vec<u8> {
    frame(payload.len() as u16, payload)
}

fn tag(number: u16, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    joined(&[&number.to_be_bytes(), &ethertype.to_be_bytes(), payload])
}

struct Ip4<'a> {
    protocol: u8,
    src: [u8; 4],
    dst: [u8; 4],
    options: &'a [u8],
    fragment: u16,
}

impl Ip4<'_> {
    fn with(&self, payload: &[u8]) -> Vec<u8> {
        let words = 5 + self.options.len().div_ceil(4);
        let mut header = vec![0x40 | words as u8, 0x10];
        header.extend(((words * 4 + payload.len()) as u16).to_be_bytes());
        header.extend([0x12, 0x34]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([64, self.protocol, 0xab, 0xcd]);
        header.extend(self.src);
        header.extend(self.dst);
        header.extend(self.options);
        header.resize(words * 4, 0);
        header.extend(payload);
        header
    }
}

fn ip4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    Ip4 { protocol, src: v4(10, 0, 0, 1), dst: v4(10, 0, 0, 2), options: &[], fragment: 0 }.with(payload)
}

fn ip6(next: u8, payload: &[u8]) -> Vec<u8> {
    ip6_between(v6("fd00::1"), v6("fd00::2"), next, payload)
}

fn ip6_between(src: [u8; 16], dst: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    joined(&[&[0x60, 0, 0, 0], &(payload.len() as u16).to_be_bytes(), &[next, 64], &src, &dst, payload])
}

/// An extension header of 8 bytes and more.
fn extension(next: u8, more: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, more];
    header.resize(8 + 8 * usize::from(more), 1);
    header.extend(payload);
    header
}

fn ports(src: u16, dst: u16) -> Vec<u8> {
    joined(&[&src.to_be_bytes(), &dst.to_be_bytes()])
}

fn tcp(src: u16, dst: u16, flags: u8) -> Vec<u8> {
    joined(&[&ports(src, dst), &[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x72, 0x10, 0, 0, 0, 0], b"GET / HTTP"])
}

fn udp(src: u16, dst: u16, payload: &[u8]) -> Vec<u8> {
    joined(&[&ports(src, dst), &((8 + payload.len()) as u16).to_be_bytes(), &[0, 0], payload])
}

fn sctp(src: u16, dst: u16) -> Vec<u8> {
    joined(&[&ports(src, dst), &[1, 2, 3, 4, 5, 6, 7, 8, 0, 3, 0, 16, 0, 0, 0, 0]])
}

fn arp(operation: u8) -> Vec<u8> {
    joined(&[&[0, 1, 8, 0, 6, 4, 0, operation], &MAC_A, &v4(10, 0, 0, 1), &[0; 6], &v4(10, 0, 0, 2)])
}

fn geneve(network: u32, options: &[u8], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    joined(&[
        &[(options.len() / 4) as u8, 0],
        &ethertype.to_be_bytes(),
        &network.to_be_bytes()[1..],
        &[0],
        options,
        payload,
    ])
}

fn label(label: u32, bottom: bool) -> [u8; 4] {
    (label << 12 | u32::from(bottom) << 8 | 64).to_be_bytes()
}

fn pppoe(code: u8, session: u16, payload: &[u8]) -> Vec<u8> {
    joined(&[&[0x11, code], &session.to_be_bytes(), &(payload.len() as u16).to_be_bytes(), payload])
}

fn snap(organisation: [u8; 3], protocol: u16, payload: &[u8]) -> Vec<u8> {
    joined(&[&[0xaa, 0xaa, 3], &organisation, &protocol.to_be_bytes(), payload])
}

/// Packets of the network layer, with their Ethernet types.
fn network_packets() -> Vec<(u16, Vec<u8>)> {
    const IP: u16 = 0x0800;
    const IP6: u16 = 0x86dd;
    let mut packets = vec![
        (IP, ip4(6, &tcp(40000, 80, 0x02))),
        (IP, ip4(6, &tcp(80, 40000, 0x12))),
        (IP, ip4(6, &tcp(443, 8080, 0x11))),
        (IP, ip4(6, &tcp(22, 25, 0x18))),
        (IP, ip4(17, &udp(53, 5353, b"\x12\x34\x01\x00"))),
        (IP, ip4(17, &udp(40000, 53, b"query"))),
        (IP, ip4(17, &udp(80, 80, b""))),
        (IP, ip4(17, &udp(67, 68, &[0; 20]))),
        (IP, ip4(132, &sctp(80, 9899))),
        (IP, ip4(132, &sctp(2905, 53))),
        (IP, ip4(1, &[8, 0, 1, 2, 0, 1, 0, 7, 1, 2, 3, 4])),
        (IP, ip4(1, &[0, 0, 1, 2, 0, 1, 0, 7])),
        (IP, ip4(1, &joined(&[&[3, 1, 1, 2, 0, 0, 0, 0], &ip4(17, &udp(1, 2, b""))]))),
        (IP, ip4(2, &[0x16, 0, 1, 2, 224, 0, 0, 251])),
        (IP, ip4(9, &[1, 2, 3, 4, 5, 6, 7, 8])),
        (IP, ip4(103, &[0x20, 0, 1, 2])),
        (IP, ip4(112, &[0x21, 1, 100, 1])),
        (IP, ip4(50, &[0; 16])),
        (IP, ip4(47, &[0, 0, 8, 0])),
        (IP, ip4(59, &[])),
        (IP, ip4(51, &joined(&[&[6, 4], &[1; 22], &tcp(80, 81, 2)]))),
        (IP, ip4(51, &joined(&[&[51, 4], &[7; 22], &[17, 4], &[0; 22], &udp(53, 53, b"")]))),
        // Behind this one libpcap's chain of headers never ends.
        (IP, ip4(51, &joined(&[&[51, 3], &[51, 3, 51, 3, 51, 3, 51, 3, 51, 3, 51, 3, 51, 3, 51, 3]]))),
        (
            IP,
            Ip4 { protocol: 6, src: v4(192, 168, 1, 5), dst: v4(10, 1, 2, 3), options: &[1; 8], fragment: 0 }
                .with(&tcp(1025, 80, 0x04)),
        ),
        (
            IP,
            Ip4 {
                protocol: 17,
                src: v4(10, 1, 0, 0),
                dst: v4(255, 255, 255, 255),
                options: &[1; 40],
                fragment: 0x4000,
            }
            .with(&udp(6081, 53, b"x")),
        ),
        (
            IP,
            Ip4 { protocol: 6, src: v4(10, 0, 0, 1), dst: v4(10, 0, 0, 2), options: &[], fragment: 0x2000 }
                .with(&tcp(80, 443, 0x10)),
        ),
        (
            IP,
            Ip4 { protocol: 6, src: v4(10, 0, 0, 1), dst: v4(10, 0, 0, 2), options: &[], fragment: 0x00b9 }
                .with(&tcp(80, 443, 0x10)),
        ),
        (
            IP,
            Ip4 {
                protocol: 17,
                src: v4(172, 16, 0, 9),
                dst: v4(224, 0, 0, 251),
                options: &[],
                fragment: 0x2001,
            }
            .with(&udp(53, 53, b"")),
        ),
        (
            IP,
            Ip4 { protocol: 17, src: v4(0, 0, 0, 0), dst: v4(10, 0, 0, 255), options: &[], fragment: 0 }
                .with(&udp(68, 67, b"")),
        ),
        (
            IP,
            Ip4 { protocol: 1, src: v4(127, 0, 0, 1), dst: v4(127, 0, 0, 1), options: &[], fragment: 0 }
                .with(&[8, 0, 0, 0]),
        ),
        (
            IP,
            Ip4 { protocol: 6, src: v4(10, 0, 0, 1), dst: v4(10, 0, 0, 2), options: &[], fragment: 0x1000 }
                .with(&tcp(80, 443, 0x10)),
        ),
        (
            IP,
            Ip4 { protocol: 17, src: v4(10, 0, 0, 1), dst: v4(10, 0, 0, 2), options: &[], fragment: 0x0001 }
                .with(&udp(53, 53, b"")),
        ),
        (IP6, ip6(6, &tcp(40000, 80, 0x02))),
        (IP6, ip6(6, &tcp(443, 40000, 0x12))),
        (IP6, ip6(17, &udp(53, 5353, b"abc"))),
        (IP6, ip6(17, &udp(123, 123, b""))),
        (IP6, ip6(132, &sctp(80, 53))),
        (IP6, ip6(58, &[128, 0, 1, 2, 0, 1, 0, 7])),
        (
            IP6,
            ip6_between(
                v6("fe80::1"),
                v6("ff02::1:ff00:2"),
                58,
                &joined(&[&[135, 0, 0, 0, 0, 0, 0, 0], &v6("fe80::2")]),
            ),
        ),
        (IP6, ip6_between(v6("2001:db8::1"), v6("2001:db8:0:1::2"), 6, &tcp(22, 22, 0x18))),
        (IP6, ip6_between(v6("::1"), v6("::1"), 17, &udp(80, 443, b""))),
        (IP6, ip6(59, &[])),
        (IP6, ip6(50, &[0; 12])),
        (IP6, ip6(103, &[0x20, 0])),
        (IP6, ip6(0, &extension(6, 0, &tcp(80, 80, 2)))),
        (IP6, ip6(0, &extension(60, 1, &extension(43, 0, &extension(17, 2, &udp(53, 53, b"z")))))),
        (IP6, ip6(44, &joined(&[&[6, 0, 0, 1, 0, 0, 0, 9], &tcp(80, 80, 2)]))),
        (IP6, ip6(44, &joined(&[&[17, 0, 1, 0x88, 0, 0, 0, 9], &udp(53, 53, b"")]))),
        (IP6, ip6(44, &joined(&[&[58, 0, 0, 0, 0, 0, 0, 9], &[128, 0, 0, 0]]))),
        (IP6, ip6(51, &joined(&[&[6, 4], &[1; 22], &tcp(80, 81, 2)]))),
        (IP6, ip6(60, &extension(51, 0, &joined(&[&[17, 10], &[1; 46], &udp(1, 2, b"")])))),
        (IP6, ip6(0, &extension(0, 0, &extension(59, 0, b"end")))),
        (0x0806, arp(1)),
        (0x0806, arp(2)),
        (0x8035, arp(3)),
        (0x8847, joined(&[&label(16, true), &ip4(6, &tcp(80, 1, 2))])),
        (0x8847, joined(&[&label(100_000, false), &label(1024, true), &ip4(17, &udp(53, 1, b""))])),
        (0x8847, joined(&[&label(5, false), &label(6, false), &label(7, true), &ip6(6, &tcp(80, 1, 2))])),
        (0x8848, joined(&[&label(16, true), &ip4(6, &tcp(80, 1, 2))])),
        (0x8863, pppoe(9, 0, &[1, 1, 0, 0])),
        (0x8864, pppoe(0, 7, &joined(&[&[0, 0x21], &ip4(6, &tcp(80, 1, 2))]))),
        (0x8864, pppoe(0, 8, &joined(&[&[0, 0x57], &ip6(17, &udp(53, 1, b""))]))),
        (0x8864, pppoe(0, 7, &joined(&[&[0xc0, 0x21], &[9, 1, 0, 8, 1, 2, 3, 4]]))),
        (0x8864, pppoe(0, 7, &joined(&[&[0x02, 0x81], &label(16, true), &ip4(6, &tcp(80, 1, 2))]))),
        (0x809b, vec![0, 13, 0, 0, 0, 1, 0, 2, 3, 4, 5, 6, 7]),
        (0x80f3, vec![0, 1, 0x80, 0x9b, 6, 4, 0, 1]),
        (0x8137, joined(&[&[0xff, 0xff, 0, 30, 0, 17], &[0; 24]])),
        (0x6001, vec![1; 20]),
        (0x6002, vec![2; 20]),
        (
            0x6003,
            joined(&[
                &[20, 0, 0x81, 0x06, 0, 0, 0xaa, 0, 4, 0, 0x0a, 0x28, 0, 0, 0xaa, 0, 4, 0, 0x0b, 0x28],
                &[0; 8],
            ]),
        ),
        (
            0x6003,
            joined(&[
                &[20, 0, 0x06, 0, 0, 0xaa, 0, 4, 0, 0x0a, 0x28, 0, 0, 0xaa, 0, 4, 0, 0x0b, 0x28],
                &[0; 8],
            ]),
        ),
        (0x6003, vec![10, 0, 0x81, 0x02, 0x0a, 0x28, 0x0b, 0x28, 0, 0, 0, 0]),
        (0x6003, vec![10, 0, 0x02, 0x0a, 0x28, 0x0b, 0x28, 0, 0, 0, 0]),
        (0x6004, vec![3; 20]),
        (0x6007, vec![4; 20]),
        (0x9000, vec![0, 0, 1, 0, 9, 9]),
        (0x88cc, vec![2, 7, 4, 1, 2, 3, 4, 5, 6]),
        (0x0600, vec![5; 12]),
    ];
    let inner = [
        (0x6558, frame(0x0800, &ip4(6, &tcp(80, 1, 2)))),
        (0x6558, frame(0x8100, &tag(5, 0x86dd, &ip6(17, &udp(53, 1, b""))))),
        (0x6558, framed(&[0x42, 0x42, 3, 0, 0, 0, 0])),
        (0x6558, ethernet(BROADCAST, MAC_B, 0x0806, &arp(1))),
        (0x0800, ip4(17, &udp(53, 1, b""))),
        (0x86dd, ip6(6, &tcp(443, 1, 2))),
        (0x8847, joined(&[&label(16, true), &ip4(6, &tcp(80, 1, 2))])),
    ];
    for (ethertype, payload) in inner {
        for options in [&[][..], &[1; 8]] {
            let tunnel = geneve(0x123456, options, ethertype, &payload);
            packets.push((IP, ip4(17, &udp(50000, 6081, &tunnel))));
            packets.push((IP6, ip6(17, &udp(50000, 6081, &tunnel))));
        }
    }
    let nested =
        geneve(7, &[], 0x0800, &ip4(17, &udp(1, 6081, &geneve(8, &[], 0x0800, &ip4(6, &tcp(80, 1, 2))))));
    packets.push((IP, ip4(17, &udp(50000, 6081, &nested))));
    let mut other = geneve(7, &[], 0x0800, &ip4(6, &tcp(80, 1, 2)));
    other[0] |= 0x40;
    packets.push((IP, ip4(17, &udp(50000, 6081, &other))));
    packets
}

/// Frames with an 802.2 header, without the header of the link.
fn llc_frames() -> Vec<Vec<u8>> {
    let mut frames = vec![
        joined(&[&[0x42, 0x42, 3], &[0; 35]]),
        joined(&[&[0xe0, 0xe0, 3, 0xff, 0xff], &[0; 28]]),
        joined(&[&[0xff, 0xff, 0, 30], &[0; 26]]),
        joined(&[&[0xf0, 0xf0, 3], &[0; 20]]),
        joined(&[&[0x06, 0x06, 3], &ip4(6, &tcp(80, 1, 2))]),
        joined(&[&[0xfe, 0xfe, 3, 0x81], &[0; 20]]),
        joined(&[&[0xfe, 0xfe, 3, 0x82], &[0; 20]]),
        joined(&[&[0xfe, 0xfe, 3, 0x83, 27, 1, 0, 0x40]]),
        snap([0, 0, 0], 0x0800, &ip4(6, &tcp(80, 1, 2))),
        snap([0, 0, 0], 0x8137, &[0xff, 0xff, 0, 30]),
        snap([8, 0, 7], 0x809b, &[0, 13, 0, 0]),
        snap([0, 0, 0], 0x80f3, &[0, 1, 0x80, 0x9b]),
        snap([0, 0, 0x0c], 0x2000, &[1, 2, 3]),
        vec![],
        vec![0xaa],
    ];
    for kind in [15, 16, 17, 18, 20, 24, 25, 26, 27, 28] {
        frames.push(joined(&[&[0xfe, 0xfe, 3, 0x83, 27, 1, 0, kind, 1, 0, 0], &[0; 8]]));
    }
    for control in
        [0x00, 0x02, 0x01, 0x05, 0x09, 0x0d, 0x03, 0x63, 0x73, 0x43, 0x0f, 0x6f, 0xe3, 0xf3, 0xaf, 0x87, 0x97]
    {
        frames.push(vec![0x10, 0x14, control, 0, 1, 2]);
    }
    frames
}

pub(crate) fn ethernet_packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (ethertype, payload) in network_packets() {
        packets.push(frame(ethertype, &payload));
    }
    for payload in llc_frames() {
        packets.push(framed(&payload));
    }
    packets.push(ethernet(BROADCAST, MAC_A, 0x0800, &ip4(17, &udp(68, 67, b""))));
    packets.push(ethernet([0x01, 0, 0x5e, 0, 0, 0xfb], MAC_B, 0x0800, &ip4(17, &udp(5353, 5353, b""))));
    packets.push(ethernet([0x33, 0x33, 0, 0, 0, 1], MAC_B, 0x86dd, &ip6(58, &[134, 0, 0, 0])));
    let inner = [
        (0x0800, ip4(6, &tcp(80, 1, 2))),
        (0x86dd, ip6(17, &udp(53, 1, b""))),
        (0x0806, arp(1)),
        (0x8847, joined(&[&label(16, true), &ip4(6, &tcp(80, 1, 2))])),
        (0x8864, pppoe(0, 7, &joined(&[&[0, 0x21], &ip4(6, &tcp(80, 1, 2))]))),
        (9, vec![0x42, 0x42, 3, 0, 0, 0, 0, 0, 0]),
        (9, vec![0xaa, 0xaa, 3, 8, 0, 7, 0x80, 0x9b, 1]),
    ];
    for (ethertype, payload) in &inner {
        for tpid in [0x8100, 0x88a8, 0x9100, 0x9200] {
            packets.push(frame(tpid, &tag(5, *ethertype, payload)));
        }
        packets.push(frame(0x8100, &tag(0x6000 | 100, *ethertype, payload)));
        packets.push(frame(0x88a8, &tag(100, 0x8100, &tag(5, *ethertype, payload))));
        packets.push(frame(0x8100, &tag(5, 0x8100, &tag(100, 0x8100, &tag(7, *ethertype, payload)))));
    }
    packets.push(Vec::new());
    packets
}

pub(crate) fn raw_packets() -> Vec<Vec<u8>> {
    network_packets().into_iter().map(|(_, payload)| payload).collect()
}

pub(crate) fn cooked_packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (index, (ethertype, payload)) in network_packets().into_iter().enumerate() {
        let direction = [0u8, 4, 1, 3][index % 4];
        packets.push(joined(&[
            &[0, direction, 0, 1, 0, 6],
            &MAC_A,
            &[0, 0],
            &ethertype.to_be_bytes(),
            &payload,
        ]));
    }
    for payload in llc_frames() {
        for protocol in [4u8, 1] {
            packets.push(joined(&[&[0, 0, 0, 1, 0, 6], &MAC_A, &[0, 0, 0, protocol], &payload]));
        }
    }
    packets
}

pub(crate) fn cooked2_packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (index, (ethertype, payload)) in network_packets().into_iter().enumerate() {
        let direction = [0u8, 4, 1, 3][index % 4];
        let link = index as u8 % 3 + 1;
        packets.push(joined(&[
            &ethertype.to_be_bytes(),
            &[0, 0, 0, 0, 0, link, 0, 1, direction, 6],
            &MAC_A,
            &[0, 0],
            &payload,
        ]));
    }
    for payload in llc_frames() {
        packets.push(joined(&[&[0, 4, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6], &MAC_A, &[0, 0], &payload]));
    }
    packets
}

pub(crate) fn loopback_packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (index, (ethertype, payload)) in network_packets().into_iter().enumerate() {
        let family: u32 = match ethertype {
            0x0800 => 2,
            0x86dd => [10, 24, 28, 30][index % 4],
            other => u32::from(other),
        };
        packets.push(joined(&[&family.to_ne_bytes(), &payload]));
        packets.push(joined(&[&family.swap_bytes().to_ne_bytes(), &payload]));
    }
    packets
}

pub(crate) fn ppp_packets() -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for (ethertype, payload) in network_packets() {
        let protocol: u16 = match ethertype {
            0x0800 => 0x21,
            0x86dd => 0x57,
            0x6003 => 0x27,
            0x809b => 0x29,
            0x0600 => 0x25,
            0x8137 => 0x2b,
            0x8847 => 0x0281,
            other => other,
        };
        packets.push(joined(&[&[0xff, 3], &protocol.to_be_bytes(), &payload]));
    }
    packets.push(joined(&[&[0xff, 3, 0, 0x23, 0x83, 27, 1, 0, 15, 1], &[0; 10]]));
    packets.push(joined(&[&[0xff, 3, 0, 0x23, 0x81], &[0; 10]]));
    packets.push(joined(&[&[0xff, 3, 0, 0x31], &[0; 10]]));
    packets.push(joined(&[&[0xff, 3, 0xc0, 0x21], &[1, 1, 0, 4]]));
    packets
}

/// The packets of a type of link.
pub(crate) fn packets(link_type: u16) -> Vec<Vec<u8>> {
    match link_type {
        1 => ethernet_packets(),
        9 => ppp_packets(),
        0 | 108 => loopback_packets(),
        101 | 228 | 229 => raw_packets(),
        113 => cooked_packets(),
        276 => cooked2_packets(),
        other => panic!("no packets of type {other}"),
    }
}
