//! Filters as their users meet them: what is refused and which word is to blame, names, directions, programs; and what
//! nobody should write.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

use std::collections::BTreeMap;
use std::fs;

use snorkel_capture::filter::{Error, Filter, Metadata, Mode, NotForKernel, Options, SystemNames, WithHosts};
use snorkel_capture::{Direction, LinkType, Packet, Timestamp};

fn compile_for(text: &str, link_type: LinkType, mode: Mode) -> Result<Filter, Error> {
    let names = WithHosts {
        hosts: BTreeMap::from([
            ("web".to_owned(), vec!["172.17.0.2".parse().unwrap(), "fd00::2".parse().unwrap()]),
            ("db".to_owned(), vec!["172.17.0.3".parse().unwrap()]),
        ]),
        otherwise: SystemNames::new("/nowhere"),
    };
    let options = Options { link_type, snaplen: 0, mode, names: &names, netmask: None, swapped: false };
    Filter::compile(text, &options)
}

fn compile(text: &str) -> Result<Filter, Error> {
    compile_for(text, LinkType::ETHERNET, Mode::File)
}

#[test]
fn the_offending_word_is_marked() {
    for (text, word, message) in [
        ("tcp prot 80", "prot", "'and' or 'or' is missing before this"),
        ("tcp port htp", "htp", "unknown port \"htp\": not in /etc/services"),
        ("host wbe or host web", "wbe", "unknown host \"wbe\""),
        ("icmp port 80", "icmp port", "only tcp, udp and sctp have ports"),
        ("port 80 or (tcp and 443)", "443", "a qualifier such as host, net or port is missing"),
        ("net 10.0.0.1/8", "10.0.0.1/8", "the network is 10.0.0.0"),
        ("net 2001:db8::1/32", "2001:db8::1/32", "the network is 2001:db8::"),
        ("host 10.0.0.256", "10.0.0.256", "no IPv4 address"),
        ("vlan 4096 and ip", "4096", "the largest is 4095"),
        ("ip[0:3] = 1", "3", "1, 2 or 4 bytes"),
        ("ip[0] / (2 - 2) > 1", "(2 - 2)", "divides by 0"),
        ("tcp[0] + foo", "foo", "a value is missing"),
        ("wlan type mgt", "type", "only wireless (802.11) frames have this"),
        ("ip or vpi 5", "vpi", "only ATM"),
        ("ip and rset foo", "rset", "BSD's packet filter"),
        ("tcp and gateway foo", "foo", "'gateway' is not supported"),
        ("tcp & udp", "&", "'and' or 'or' is missing"),
        ("tcp ; udp", ";", "';' has no meaning in a filter"),
        ("port 080", "080", "octal"),
        ("port 4294967296", "4294967296", "does not fit into 32 bits"),
        ("(tcp and (udp)", "", "the expression ends too early"),
        ("host", "", "the expression ends too early"),
        ("mpls and arp", "arp", "behind MPLS labels only IPv4 and IPv6"),
        ("ip broadcast", "ip broadcast", "mask is not known"),
        ("tcp and ifindex 3", "ifindex 3", "a file does not tell the link"),
        ("ip and ip6", "ip and ip6", "no packet can match this"),
        ("iso[0] = 1", "iso[0]", "bytes cannot be looked at"),
    ] {
        let error = compile(text).expect_err(text);
        assert_eq!(&text[error.span.clone()], word, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
        // The carets stand under the word.
        let shown = error.render(text);
        let lines: Vec<&str> = shown.lines().collect();
        let column = lines[1].find('^').unwrap();
        assert_eq!(lines[0].get(column..column + word.len()), Some(word), "{shown}");
    }
    let error = compile_for("tcp", LinkType(105), Mode::File).expect_err("wireless frames");
    assert_eq!(error.message, "packets of type LINKTYPE 105 cannot be filtered");
    let error = compile_for("vlan 5", LinkType::RAW, Mode::File).expect_err("no tags without a link");
    assert_eq!(error.message, "packets of type RAW have no VLAN tags");
}

#[test]
fn containers_have_names() {
    let named = compile("host web and not host db").unwrap();
    let numbers = compile("(host 172.17.0.2 or host fd00::2) and not host 172.17.0.3").unwrap();
    assert_eq!(named.instructions(), numbers.instructions());
    let one_family = compile("ip6 host web").unwrap();
    assert_eq!(one_family.instructions(), compile("ip6 host fd00::2").unwrap().instructions());
    assert!(compile("ip6 host db").unwrap_err().message.contains("no IPv6 address"));
    // A name that is a word of the language, after a backslash.
    assert!(compile("host \\tcp").unwrap_err().message.contains("unknown host \"tcp\""));
}

#[test]
fn names_are_read_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    write("hosts", "10.9.8.7 mail.example mail # the mail server\nfd00::7\tMail\nbroken mail\n");
    write(
        "services",
        "smtp 25/tcp mail\n# foo 1/tcp\nsyslog\t514/udp\ndomain 53/tcp\ndomain 53/udp\nbad x/tcp\n",
    );
    write("protocols", "ip 0 IP\ngre 47 GRE\n");
    write("networks", "loopback 127.0.0.0\nlab 10.9\n");
    write("ethers", "2:42:ac:11:0:2 box\n");
    let names = SystemNames::new(directory.path());
    let options = Options {
        link_type: LinkType::ETHERNET,
        snaplen: 0,
        mode: Mode::File,
        names: &names,
        netmask: None,
        swapped: false,
    };
    for (named, numbers) in [
        ("host mail", "host 10.9.8.7 or host fd00::7"),
        ("port smtp", "tcp port 25"),
        ("port mail", "tcp port 25"),
        ("port syslog", "udp port 514"),
        ("port domain", "port 53"),
        ("udp port domain", "udp port 53"),
        ("portrange smtp-domain", "portrange 25-53"),
        ("ip proto \\gre", "ip proto 47"),
        ("ip proto GRE", "ip proto 47"),
        ("net lab", "net 10.9.0.0 mask 255.255.255.255"),
        ("ether host box", "ether host 02:42:ac:11:00:02"),
    ] {
        let named = Filter::compile(named, &options).unwrap_or_else(|error| panic!("{named}: {error}"));
        let numbers = Filter::compile(numbers, &options).unwrap();
        assert_eq!(named.instructions(), numbers.instructions());
    }
    for wrong in [
        "udp port smtp",
        "sctp port smtp",
        "port foo",
        "port bad",
        "ip proto foo",
        "net foo",
        "ether host foo",
    ] {
        Filter::compile(wrong, &options).expect_err(wrong);
    }
}

#[test]
fn a_file_may_tell_the_direction() {
    let packet = |direction| Packet {
        time: Timestamp(0),
        interface: 0,
        direction,
        original_length: 60,
        data: &[0; 60],
    };
    let inbound = compile("inbound").unwrap();
    assert!(inbound.matches(&packet(Some(Direction::Inbound))));
    assert!(!inbound.matches(&packet(Some(Direction::Outbound))));
    assert!(!inbound.matches(&packet(None)));
    let outbound = compile("outbound").unwrap();
    assert!(outbound.matches(&packet(Some(Direction::Outbound))));
    assert!(!compile("not outbound").unwrap().matches(&packet(None)));
    // What need not look at it says what it says.
    assert!(compile("greater 60 or inbound").unwrap().matches(&packet(None)));
}

#[test]
fn byte_looks_at_the_byte() {
    let run = |text: &str| compile(text).unwrap().run(&[0x30, 0x02], 2, &Metadata::default()) != 0;
    assert!(run("byte 0 & 16") && !run("byte 0 & 8"));
    assert!(run("byte 1 & 2") && !run("byte 1 & 1"));
    assert!(run("byte 1 | 0"));
    assert!(!run("byte 2 | 1"));
}

#[test]
fn an_empty_expression_matches_everything() {
    for text in ["", "  \n\t "] {
        let filter = compile(text).unwrap();
        assert_eq!(filter.run(&[], 0, &Metadata::default()), 262_144);
        assert_eq!(filter.disassembly(), "(000) ret      #262144\n");
    }
}

#[test]
fn a_program_can_be_read() {
    let filter = compile_for("tcp dst port 80", LinkType::ETHERNET, Mode::Live).unwrap();
    let expected = "\
(000) ldh      [12]
(001) jeq      #0x86dd          jt 2\tjf 6
(002) ldb      [20]
(003) jeq      #0x6             jt 4\tjf 15
(004) ldh      [56]
(005) jeq      #0x50            jt 14\tjf 15
(006) jeq      #0x800           jt 7\tjf 15
(007) ldb      [23]
(008) jeq      #0x6             jt 9\tjf 15
(009) ldh      [20]
(010) jset     #0x1fff          jt 15\tjf 11
(011) ldxb     4*([14]&0xf)
(012) ldh      [x + 16]
(013) jeq      #0x50            jt 14\tjf 15
(014) ret      #262144
(015) ret      #0
";
    assert_eq!(filter.disassembly(), expected);
}

#[test]
fn the_kernel_does_not_get_what_it_cannot_run() {
    let live = |text: &str| compile_for(text, LinkType::ETHERNET, Mode::Live).unwrap();
    assert_eq!(live("ip6 protochain 6").kernel_program(), Err(NotForKernel::Loop));
    assert_eq!(live("1 << ip[0] = 2").kernel_program(), Err(NotForKernel::Shift));
    let many: Vec<String> =
        (0..5000).map(|n| format!("ether host 02:00:00:00:{:02x}:{:02x}", n >> 8, n & 255)).collect();
    let many = live(&many.join(" or "));
    assert!(matches!(many.kernel_program(), Err(NotForKernel::TooLong(4097..))));
    let mut frame = [0u8; 14];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0x13, 0x87]);
    assert_ne!(many.run(&frame, 14, &Metadata::default()), 0);
    frame[5] = 0x88;
    assert_eq!(many.run(&frame, 14, &Metadata::default()), 0);
}

/// Expressions of a megabyte and more: they work, or they are refused; nothing overflows.
#[test]
fn an_expression_may_be_very_long() {
    const SIZE: usize = 1 << 20;
    let repeated = |part: &str| part.repeat(SIZE / part.len());
    let works = [
        format!("{}tcp", repeated("not ")),
        format!("{}tcp", repeated("!")),
        format!("tcp{}", repeated(" or udp")),
        format!("tcp{}", repeated(" and not icmp or udp")),
        format!("host 10.0.0.1{}", repeated(" or 10.0.0.1")),
        format!("tcp{}", repeated(" or tcp[0:2] = 80 and host 10.2.3.4")),
        format!("1{} > ip[0]", repeated(" + 1")),
        format!("ip[0]{} > 5", repeated(" + ip[1]")),
        format!("5 < {}ip[0]", repeated("- ")),
        format!("tcp{}", " ".repeat(SIZE)),
        (0..60_000)
            .map(|n| format!("host 10.{}.{}.{n}", n >> 8, n & 255, n = n & 255))
            .collect::<Vec<_>>()
            .join(" or "),
    ];
    for text in &works {
        let filter = compile(text).unwrap_or_else(|error| panic!("{}: {error}", &text[..40]));
        filter.run(&[0; 60], 60, &Metadata::default());
    }
    let refused = [
        format!("{}tcp{}", repeated("("), repeated(")")),
        repeated("("),
        repeated("not ("),
        format!("port {}80", repeated("(")),
        format!("{}5 = 5", repeated("(")),
        format!("{} = 5", repeated("ip[")),
        format!("ip[0]{} = 5", repeated(" % 3")),
        format!("ip[0]{} = 5", repeated(" - (ip[1]")),
        format!("5 = {}5", repeated("-(")),
        format!("host {}", repeated("a")),
        format!("port {}", repeated("9")),
        format!("host {}", repeated("1:")),
        format!("host {}", repeated("1.")),
        format!("\\{}", repeated("ä")),
        repeated("ä"),
        repeated("\0"),
        repeated("::"),
        format!("vlan{} and ip", repeated(" and vlan")).replace("vlan and ip", "vlan and foo"),
        format!("tcp{}", repeated(" and geneve")),
    ];
    for text in &refused {
        let error = compile(text).expect_err(&text.chars().take(40).collect::<String>());
        assert!(text.get(error.span.clone()).is_some());
        assert!(error.render(text).len() < 2000 + error.message.len());
    }
}

#[test]
fn parentheses_may_be_nested_as_deep_as_it_says() {
    for (open, close) in [("(", ")"), ("not (", ")"), ("(not (", "))")] {
        let depth = 200 / open.matches('(').count();
        let nested = |depth: usize| format!("{}tcp{}", open.repeat(depth), close.repeat(depth));
        compile(&nested(depth)).unwrap();
        assert!(
            compile(&nested(depth + 1)).unwrap_err().message.contains("nested more than 200 levels deep")
        );
    }
}
