//! Random expressions, made by the rules of the grammar, and random damage to packets.

use proptest::prelude::*;

/// An expression. Some are wrong: whether they are is part of the comparison.
pub(crate) fn expression() -> impl Strategy<Value = String> {
    let term = prop_oneof![
        6 => qualified(),
        4 => prop::sample::select(&PROTOCOLS[..]).prop_map(str::to_owned),
        4 => relation(),
        3 => other(),
        5 => field(),
    ];
    term.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            3 => (inner.clone(), joint(), inner.clone()).prop_map(|(a, joint, b)| format!("{a}{joint}{b}")),
            2 => inner.clone().prop_map(|a| format!("({a})")),
            2 => inner.clone().prop_map(|a| format!("not {a}")),
            1 => (inner.clone(), joint(), id()).prop_map(|(a, joint, id)| format!("{a}{joint}{id}")),
            1 => (inner, joint(), ids()).prop_map(|(a, joint, ids)| format!("{a}{joint}({ids})")),
        ]
    })
}

fn joint() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![" and ", " or ", " && ", "||"])
}

const PROTOCOLS: [&str; 38] = [
    "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "igrp", "pim", "vrrp", "carp",
    "ah", "esp", "atalk", "aarp", "decnet", "lat", "sca", "moprc", "mopdl", "iso", "clnp", "esis", "isis",
    "l1", "l2", "iih", "lsp", "snp", "csnp", "psnp", "stp", "ipx", "netbeui", "ether",
];

/// Protocols whose bytes can be looked at, and some whose cannot.
const INDEXED: [&str; 20] = [
    "ip", "ip", "ip6", "tcp", "tcp", "udp", "icmp", "icmp6", "ether", "ether", "link", "arp", "sctp", "igmp",
    "pim", "vrrp", "atalk", "decnet", "iso", "esp",
];

fn qualified() -> impl Strategy<Value = String> {
    let protocol = prop::sample::select(vec![
        "", "", "", "ip ", "ip6 ", "tcp ", "udp ", "sctp ", "arp ", "rarp ", "ether ", "decnet ", "icmp ",
        "iso ",
    ]);
    let direction = prop::sample::select(vec![
        "",
        "",
        "src ",
        "dst ",
        "src or dst ",
        "src and dst ",
        "dst or src ",
        "dst && src ",
    ]);
    let simple =
        (protocol.clone(), direction, prop::sample::select(vec!["host ", "net ", "port ", "portrange ", ""]));
    prop_oneof![
        8 => (simple, fitting()).prop_map(|((protocol, direction, _), (kind, id))| {
            format!("{protocol}{direction}{kind} {id}")
        }),
        2 => (protocol.clone(), prop::sample::select(vec!["proto ", "protochain "]), id())
            .prop_map(|(protocol, kind, id)| format!("{protocol}{kind}{id}")),
        1 => (protocol.clone(), id()).prop_map(|(protocol, id)| format!("{protocol}src {id}")),
        1 => (protocol, prop::sample::select(vec!["host", "port", "net"]), ids())
            .prop_map(|(protocol, kind, ids)| format!("{protocol}{kind} ({ids})")),
    ]
}

/// A kind, and mostly what fits to it.
fn fitting() -> impl Strategy<Value = (&'static str, String)> {
    prop_oneof![
        3 => address().prop_map(|id| ("host", id)),
        3 => net().prop_map(|id| ("net", id)),
        4 => port().prop_map(|id| ("port", id)),
        2 => (0u32..70_000, 0u32..70_000).prop_map(|(a, b)| ("portrange", format!("{a}-{b}"))),
        1 => hardware().prop_map(|id| ("host", id)),
        1 => (prop::sample::select(vec!["host", "net", "port", "portrange"]), id()),
    ]
}

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec![
            "10.0.0.1", "10.0.0.2", "192.168.1.5", "127.0.0.1", "10.0", "172.16.0", "fd00::1", "fd00::2", "::1",
            "2001:db8::1", "fe80::1", "localhost", "10.10", "10.11",
        ]).prop_map(str::to_owned),
        1 => any::<[u8; 4]>().prop_map(|b| format!("{}.{}.{}.{}", b[0], b[1], b[2], b[3])),
        1 => any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from(bits).to_string()),
    ]
}

fn net() -> impl Strategy<Value = String> {
    prop_oneof![
        (any::<u32>(), 0u32..34).prop_map(|(address, bits)| {
            let mask = if bits == 0 { 0 } else { u32::MAX << 32u32.saturating_sub(bits).min(31) };
            format!("{}/{bits}", std::net::Ipv4Addr::from(address & mask))
        }),
        prop::sample::select(vec![
            "10",
            "10/8",
            "10.0.0.0/8",
            "192.168",
            "10.0.0.0/24",
            "fd00::/16",
            "fd00::/8",
            "2001:db8::/33",
            "::/0",
            "0.0.0.0/0",
            "10.0.0.0 mask 255.0.0.0",
            "10.1.0.0 mask 255.255",
        ])
        .prop_map(str::to_owned),
        (any::<u128>(), 0u32..130).prop_map(|(address, bits)| {
            let mask = if bits == 0 { 0 } else { u128::MAX << 128u32.saturating_sub(bits).min(127) };
            format!("{}/{bits}", std::net::Ipv6Addr::from(address & mask))
        }),
    ]
}

fn port() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["80", "443", "53", "22", "1", "2", "6081", "http", "domain", "ssh", "tftp"])
            .prop_map(str::to_owned),
        1 => (0u32..70_000).prop_map(|port| port.to_string()),
    ]
}

fn hardware() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "02:42:ac:11:00:02",
        "02:42:ac:11:00:03",
        "ff:ff:ff:ff:ff:ff",
        "0242.ac11.0002",
    ])
    .prop_map(str::to_owned)
}

/// Anything that may stand after qualifiers.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        address(),
        net(),
        port(),
        hardware(),
        number(),
        prop::sample::select(vec![
            "\\tcp", "\\udp", "\\icmp", "\\ip", "\\arp", "\\isis", "(80)", "not 80", "foo", "6", "17"
        ])
        .prop_map(str::to_owned),
    ]
}

fn ids() -> impl Strategy<Value = String> {
    prop::collection::vec(id(), 1..4).prop_map(|ids| ids.join(" or "))
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0u32..70).prop_map(|number| number.to_string()),
        2 => prop::sample::select(vec!["255", "0xff", "0x0800", "1500", "256", "65535", "0x1fff", "0xffff", "0x86dd"])
            .prop_map(str::to_owned),
        1 => any::<u32>().prop_map(|number| number.to_string()),
        1 => any::<u32>().prop_map(|number| format!("{number:#x}")),
        1 => prop::sample::select(vec!["tcpflags", "tcp-syn", "icmptype", "icmp-echo", "icmp6-echo", "017", "tcp-ack"])
            .prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => number(),
        1 => Just("len".to_owned()),
        6 => (prop::sample::select(&INDEXED[..]), 0u32..48, size())
            .prop_map(|(protocol, index, size)| format!("{protocol}[{index}{size}]")),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let operator = prop::sample::select(vec!["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "&", "-", "+"]);
        prop_oneof![
            5 => (inner.clone(), operator, inner.clone()).prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
            2 => inner.clone().prop_map(|a| format!("({a})")),
            1 => inner.clone().prop_map(|a| format!("-{a}")),
            2 => (prop::sample::select(&INDEXED[..]), inner, size())
                .prop_map(|(protocol, index, size)| format!("{protocol}[{index}{size}]")),
        ]
    })
}

fn size() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", ":1", ":2", ":4", ":2"])
}

fn relation() -> impl Strategy<Value = String> {
    let relation = prop::sample::select(vec!["=", "==", "!=", "<", ">", "<=", ">="]);
    prop_oneof![
        (value(), relation.clone(), value()).prop_map(|(a, relation, b)| format!("{a} {relation} {b}")),
        (prop::sample::select(&INDEXED[..]), 0u32..48, size(), number(), relation, number()).prop_map(
            |(protocol, index, size, mask, relation, with)| format!(
                "{protocol}[{index}{size}] & {mask} {relation} {with}"
            )
        ),
    ]
}

fn other() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "broadcast",
            "multicast",
            "ip broadcast",
            "ip multicast",
            "ip6 multicast",
            "ether broadcast",
            "vlan",
            "vlan 5",
            "vlan 100",
            "mpls",
            "mpls 16",
            "mpls 100000",
            "pppoed",
            "pppoes",
            "pppoes 7",
            "geneve",
            "geneve 7",
            "geneve 0x123456",
            "llc",
            "llc i",
            "llc s",
            "llc u",
            "llc rr",
            "llc ui",
            "llc xid",
            "inbound",
            "outbound",
            "ifindex 1",
        ])
        .prop_map(str::to_owned),
        (prop::sample::select(vec!["less", "greater"]), 0u32..200)
            .prop_map(|(word, length)| format!("{word} {length}")),
        (0u32..40, prop::sample::select(vec!["=", "<", ">"]), 0u32..256)
            .prop_map(|(index, test, value)| format!("byte {index} {test} {value}")),
        (
            prop::sample::select(vec![
                "ether proto",
                "ip proto",
                "ip6 proto",
                "proto",
                "iso proto",
                "isis proto"
            ]),
            number()
        )
            .prop_map(|(word, number)| format!("{word} {number}")),
    ]
}

/// Questions about few fields with few values, so that much of what is asked is known already.
fn field() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        (Just("ip[8]"), prop::sample::select(vec![0u32, 63, 64, 65, 255])),
        (Just("ip[9]"), prop::sample::select(vec![1u32, 5, 6, 16, 17, 132])),
        (Just("ip6[6]"), prop::sample::select(vec![6u32, 17, 44, 58])),
        (Just("ether[12:2]"), prop::sample::select(vec![1500u32, 1501, 0x0800, 0x0806, 0x86dd])),
        (Just("link[0]"), prop::sample::select(vec![0u32, 1, 2, 3, 0x45])),
    ];
    let relation = prop::sample::select(vec!["=", "!=", "<", ">", "<=", ">=", "& 64 !=", "& 1 ="]);
    (field, relation).prop_map(|((field, value), relation)| format!("{field} {relation} {value}"))
}

/// What happens to a packet.
#[derive(Debug, Clone)]
pub(crate) struct Damage {
    bytes: Vec<(prop::sample::Index, u8)>,
}

impl Damage {
    pub(crate) fn apply(&self, data: &mut [u8]) {
        for (index, value) in &self.bytes {
            if !data.is_empty() {
                data[index.index(data.len())] = *value;
            }
        }
    }
}

pub(crate) fn damage() -> impl Strategy<Value = Damage> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3)
        .prop_map(|bytes| Damage { bytes })
}
