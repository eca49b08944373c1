//! A line or an object a packet, and which packets.

use serde_json::Value;

use crate::common::{good, lab, run, target};
use crate::kit::{Capture, echo, fetch, row, send};
use snorkel_lab::{Kind, LabSpec, NodeSpec};

/// The lines that have all of these words.
fn having<'a>(out: &'a str, words: &[&str]) -> Vec<&'a str> {
    out.lines().filter(|line| words.iter().all(|word| line.contains(word))).collect()
}

#[test]
fn lines_tell_link_direction_names_and_what_was_said() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let capture = Capture::start(&[&client]);
    // A name is asked for, then there is ARP, a handshake, a request and an answer; then a greeting by TLS, which the
    // echo server does not understand.
    good(["exec", &client, "--", "curl", "-4", "-s", "http://web.lab/over/there"]);
    run(["exec", &client, "--", "curl", "-4", "-sk", "https://db.lab:5432/"]);
    good(["exec", &client, "--", "ping", "-4", "-n", "-c1", "-q", "db.lab"]);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    let [here, web, db, switch] =
        ["client", "web", "db", "switch"].map(|node| format!("{}/{node}", lab.name));
    let link = format!("{here}/eth0");
    for words in [
        &["out", &here, &switch, "DNS", "A? web.lab."][..],
        &["in", &switch, &here, "DNS", "A 198.19.0.2"],
        &["out", "ARP who-has", &format!("{web} tell {here}")],
        &["in", "ARP reply", &format!("{web} is-at")],
        &["out", &format!("> {web}:80"), "TCP [S]", "mss 1460", "length 0"],
        &["in", &format!("{web}:80 >"), "TCP [S.]", "ack"],
        &["out", &format!("> {web}:80"), "[P.]", "HTTP GET /over/there HTTP/1.1", "web.lab"],
        &["in", &format!("{web}:80 >"), "HTTP 200 OK"],
        &["out", &format!("> {db}:5432"), "TLS", "client hello", "db.lab"],
        &["out", &format!("{here} > {db}"), "ICMP echo request", "seq 1", "length 64"],
        &["in", &format!("{db} > {here}"), "ICMP echo reply", "seq 1", "length 64"],
    ] {
        let found = having(&ran.stdout, words);
        assert!(!found.is_empty(), "{words:?} is not in\n{}", ran.stdout);
        // Time, link, direction.
        let mut parts = found[0].split_whitespace();
        assert!(parts.next().unwrap().split(':').count() == 3, "{found:?}");
        assert_eq!((parts.next(), parts.next()), (Some(link.as_str()), Some(words[0])), "{found:?}");
    }
}

#[test]
fn hex_and_ascii_are_the_packet() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let plain =
        Capture::start(&[&client, "-x", "-c", "1", "--", "tcp[tcpflags] & tcp-push != 0 and dst port 80"]);
    let ascii =
        Capture::start(&[&client, "-X", "-c", "1", "--", "tcp[tcpflags] & tcp-push != 0 and dst port 80"]);
    fetch(&lab);
    let (plain, ascii) = (plain.finish(), ascii.finish());
    let bytes: String = plain
        .stdout
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("0x"))
        .flat_map(|line| line.split_once(':').unwrap().1.split_whitespace())
        .collect();
    let request: String = b"GET /of-the-test HTTP/1.1".iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(bytes.starts_with("45") && bytes.contains(&request), "{plain:?}");
    let text: String = ascii
        .stdout
        .lines()
        .filter(|line| line.contains("0x"))
        .map(|line| &line[line.len() - 16..])
        .collect();
    assert!(text.contains("GET./of-the-test.HTTP/1.1"), "{ascii:?}");
}

#[test]
fn objects_can_be_read_one_by_one() {
    let lab = lab(LabSpec::default());
    let capture = Capture::start(&[&target(&lab, "client"), "--json"]);
    fetch(&lab);
    let ran = capture.stop();
    let objects: Vec<Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let text = |object: &Value| object.to_string();
    assert!(objects.len() >= 8, "{objects:#?}");
    let request = objects.iter().find(|object| text(object).contains("/of-the-test")).expect("the request");
    assert!(text(request).contains(&format!("{}/client/eth0", lab.name)), "{request:#}");
    assert!(text(request).contains(&format!("{}/web", lab.name)), "{request:#}");
    assert!(text(request).contains("\"out\""), "{request:#}");
}

#[test]
fn what_goes_through_a_vxlan_is_shown_within_its_packets() {
    let lab = lab(LabSpec::default());
    let addresses = ["client", "db"].map(|node| crate::kit::address(&lab, node).to_string());
    for (node, here, there, inner) in [("client", 0, 1, "198.51.100.1/24"), ("db", 1, 0, "198.51.100.2/24")] {
        let ip = |words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            let run = || std::process::Command::new("ip").args(&words).status().unwrap();
            assert!(crate::kit::inside(&lab, node, run).success(), "ip {words:?}");
        };
        let (here, there) = (&addresses[here], &addresses[there]);
        ip(&format!("link add vx type vxlan id 42 local {here} remote {there} dstport 4789 dev eth0"));
        ip(&format!("address add {inner} dev vx"));
        ip("link set vx up");
    }
    let client = target(&lab, "client");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vx.pcapng");
    let filter = ["--", "udp dst port 4789"];
    let outside = Capture::start(&[&[client.as_str(), "-n", "-i", "eth0"], &filter[..]].concat());
    let written =
        Capture::start(&[&[&client, "-i", "eth0", "-w", file.to_str().unwrap()], &filter[..]].concat());
    let within = Capture::start(&[&client, "-n", "-i", "vx", "--", "udp dst port 9"]);
    crate::kit::inside(&lab, "client", || {
        // Refused by then, so the way within is known.
        std::net::TcpStream::connect("198.51.100.2:9").unwrap_err();
        std::net::UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"through", "198.51.100.2:9").unwrap();
    });
    let (outside, within, written) = (outside.stop(), within.stop(), written.stop());
    let [line] = having(&outside.stdout, &["client/eth0 out", "UDP length 7"])[..] else {
        panic!("{outside:?}")
    };
    let outer = format!(" > {}:4789 VXLAN vni 42: 198.51.100.1:", addresses[1]);
    assert!(line.contains(&outer), "{line}");
    assert!(line.contains(" > 198.51.100.2:9 UDP length 7"), "{line}");
    let [line] = having(&within.stdout, &["client/vx out"])[..] else { panic!("{within:?}") };
    assert!(line.contains("198.51.100.2:9 UDP length 7"), "{line}");
    assert_eq!(written.status, 0, "{written:?}");
    let fields = [
        "-Y",
        "udp.dstport == 9 and not icmp",
        "-T",
        "fields",
        "-e",
        "vxlan.vni",
        "-e",
        "ip.dst",
        "-e",
        "udp.dstport",
    ];
    let shown = crate::kit::tshark(&file, &fields);
    assert_eq!(shown, format!("42\t{},198.51.100.2\t4789,9\n", addresses[1]));
}

#[test]
fn it_ends_after_so_many_packets_or_so_long() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let capture = Capture::start(&[&client, "-c", "7", "--", "udp dst port 9"]);
    send(&lab, "client", 9, 0..100, 32);
    let ran = capture.finish();
    assert_eq!((ran.status, ran.stdout.lines().count()), (0, 7), "{ran:?}");
    let [matched, lost, captured] = row(&ran, &format!("{}/client/eth0", lab.name));
    assert!(matched >= 7 && lost == 0 && captured == 7, "{ran:?}");
    let ran = run(["capture", &client, "--for", "100ms", "--", "udp dst port 9"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{ran:?}");
    assert!(ran.stderr.contains("MATCHED"), "{ran:?}");
}

#[test]
fn of_each_packet_so_much_as_was_asked_for() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("short.pcapng");
    let capture = Capture::start(&[
        &target(&lab, "client"),
        "-s",
        "60",
        "-w",
        file.to_str().unwrap(),
        "--",
        "udp dst port 9",
    ]);
    send(&lab, "client", 9, 0..5, 500);
    let ran = capture.stop();
    assert!(ran.stderr.contains("5 cut by the snap length"), "{ran:?}");
    let lengths = crate::kit::tshark(&file, &["-T", "fields", "-e", "frame.cap_len", "-e", "frame.len"]);
    assert_eq!(lengths, "60\t542\n".repeat(5));
}

#[test]
fn the_links_that_are_named_are_captured() {
    let mut two = NodeSpec::new("two", Kind::Idle);
    two.links = 2;
    let lab = lab(LabSpec::of(vec![two, NodeSpec::new("db", Kind::Db)]));
    let two = target(&lab, "two");
    let announced = |words: &[&str]| {
        let all = [&["capture", &two, "--for", "1ms"], words].concat();
        let ran = run(all);
        assert_eq!(ran.status, 0, "{ran:?}");
        let line =
            ran.stderr.lines().find(|line| line.contains("capturing on")).expect("it was said").to_owned();
        let links = line.split_once("capturing on ").unwrap().1.split(';').next().unwrap();
        links.split(", ").map(|link| link.replace(&format!("{}/", lab.name), "")).collect::<Vec<_>>()
    };
    assert_eq!(announced(&[]), ["two/eth0", "two/eth1"]);
    assert_eq!(announced(&["-i", "eth1"]), ["two/eth1"]);
    assert_eq!(announced(&["-i", "any"]), ["two/lo", "two/eth0", "two/eth1"]);
    assert_eq!(announced(&["-i", "eth0", "--side", "host"]), ["switch/vethtwo"]);
    assert_eq!(announced(&["-i", "eth1", "--side", "both"]), ["two/eth1", "switch/vethtwo.1"]);
    let ran = run(["capture", &two, "-i", "eth7"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("has no link 'eth7'") && ran.stderr.contains("lo, eth0, eth1"), "{ran:?}");
    // The loopback's packets are of no other link.
    let capture = Capture::start(&[&two, "-i", "lo", "-c", "1", "--", "udp dst port 9"]);
    crate::kit::inside(&lab, "two", || {
        std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", "127.0.0.1:9").unwrap();
    });
    assert!(capture.finish().stdout.contains("127.0.0.1:9 UDP"));
}

#[test]
fn both_ends_see_a_packet_in_opposite_directions() {
    let lab = lab(LabSpec::default());
    let capture =
        Capture::start(&[&target(&lab, "client"), "--side", "both", "-c", "2", "--", "udp dst port 9"]);
    send(&lab, "client", 9, 0..1, 32);
    let ran = capture.finish();
    let lines: Vec<Vec<&str>> =
        ran.stdout.lines().map(|line| line.split_whitespace().take(3).collect()).collect();
    let own = format!("{}/client/eth0", lab.name);
    let other = format!("{}/switch/vethclient", lab.name);
    assert_eq!(lines[0][1..], [own.as_str(), "out"], "{ran:?}");
    assert_eq!(lines[1][1..], [other.as_str(), "in"], "{ran:?}");
}

#[test]
fn patterns_and_labels_mean_all_that_fit() {
    let mut marked = NodeSpec::new("mark", Kind::Idle);
    marked.labels.insert("role".into(), format!("x{}", std::process::id()));
    let lab = lab(LabSpec::of(vec![
        NodeSpec::new("web-1", Kind::Idle),
        NodeSpec::new("web-2", Kind::Idle),
        NodeSpec::new("db", Kind::Db),
        marked,
    ]));
    let all = target(&lab, "web-*");
    let ran = run(["capture", &all, "--for", "1ms"]);
    assert!(ran.stderr.contains("web-1/eth0") && ran.stderr.contains("web-2/eth0"), "{ran:?}");
    assert!(!ran.stderr.contains("db/eth0") && !ran.stderr.contains("mark/eth0"), "{ran:?}");
    let ran = run(["capture", "--label", &format!("role=x{}", std::process::id()), "--for", "1ms"]);
    assert!(ran.stderr.contains("mark/eth0") && !ran.stderr.contains("web-1/eth0"), "{ran:?}");
    let ran = run(["capture", "no-such-*"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("no running target fits"), "{ran:?}");
}

#[test]
fn a_process_is_a_target_too() {
    let lab = lab(LabSpec::default());
    let pid = lab.node("client").unwrap().pid.unwrap();
    let capture = Capture::start(&[&format!("pid:{pid}"), "-c", "1", "--", "udp dst port 9"]);
    send(&lab, "client", 9, 0..1, 32);
    let ran = capture.finish();
    assert_eq!((ran.status, ran.stdout.lines().count()), (0, 1), "{ran:?}");
    let own = std::process::id();
    let ran = run(["capture", &format!("pid:{own}")]);
    assert!(ran.status == 1 && ran.stderr.contains("shares the host's"), "{ran:?}");
}

#[test]
fn what_is_mistaken_is_answered_in_a_word_or_two() {
    let first = lab(LabSpec::default());
    let _second = lab(LabSpec::default());
    let client = target(&first, "client");
    for (words, expected) in [
        (&["no-such-one"][..], "no target 'no-such-one'"),
        (&["web"], "'web' is ambiguous"),
        (&[&client, "udp", "port", "53"], &format!("try: snorkel capture {client} -- udp port 53\n")),
        (&[&client, "no-such-one"], "try: snorkel ls -a\n"),
        (&["pid:4194305"], "no target 'pid:4194305'"),
        (&[], "a target is needed"),
        (&[&client, "--pair"], "--side both"),
        (&[&client, "-w", "-", "--rotate", "1MB"], "stdout cannot be rotated"),
        (&[&client, "-w", "/no/such/folder/x"], "open the directory /no/such/folder"),
        (&[&client, "-w", "/"], "it is a directory"),
        (&[&client, "--buffer", "100KB"], "--buffer"),
        (&[&client, "--rotate", "often", "-w", "x"], "--rotate often"),
        (&[&client, "-c", "0"], "0"),
        (&[&client, "-c", "3", "--ring", "1m", "--trigger", "exit", "-w", "x"], "--ring"),
    ] {
        let ran = run([&["capture"], words].concat());
        assert!(ran.status == 1 || ran.status == 2, "{words:?}: {ran:?}");
        assert!(ran.stderr.contains(expected), "{words:?}: {ran:?}");
        assert!(!ran.stderr.contains("capturing on") && !ran.stderr.contains("panic"), "{words:?}: {ran:?}");
    }
}

#[test]
fn a_mistake_in_the_filter_is_pointed_at() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    for (filter, word) in [
        ("tcp prot 80", "prot"),
        ("host nowhere.invalid.", "nowhere.invalid."),
        ("udp and", ""),
        ("tcp[0:3] = 1", "3"),
        ("port 99999", "99999"),
    ] {
        let ran = run(["capture", &client, "--", filter]);
        assert_eq!(ran.status, 1, "{ran:?}");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        let at = lines.iter().position(|line| line.contains('^')).unwrap_or_else(|| panic!("{ran:?}"));
        let (typed, caret) = (lines[at - 1], lines[at].find('^').unwrap());
        assert!(typed.contains(filter), "{ran:?}");
        let rest = typed.get(caret..).unwrap_or_default();
        assert!(rest.starts_with(word), "{filter}: the caret is at {rest:?} of {ran:?}");
    }
}

#[test]
fn a_targets_name_is_a_host_in_the_filter() {
    let lab = lab(LabSpec::default());
    let filter = format!("host \\{} and tcp dst port 80", target(&lab, "web"));
    let capture = Capture::start(&[&target(&lab, "client"), "-c", "1", "--", &filter]);
    echo(&lab, "client");
    fetch(&lab);
    let ran = capture.finish();
    assert!(ran.stdout.contains(&format!("> {}/web:80 TCP [S]", lab.name)), "{ran:?}");
}

#[test]
fn objects_do_not_go_into_a_file() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.pcapng");
    let ran =
        run(["capture", &target(&lab, "client"), "-w", file.to_str().unwrap(), "--json", "--for", "1ms"]);
    assert_eq!(ran.status, 2, "{ran:?}");
    assert!(ran.stderr.contains("--json") && !file.exists(), "{ran:?}");
}

#[test]
fn more_memory_than_rings_take_is_refused_with_the_limit() {
    let lab = lab(LabSpec::default());
    let (client, web) = (target(&lab, "client"), target(&lab, "web"));
    for (words, limit) in
        [(&[&client[..]][..], "4GiB"), (&[&client, &web], "8GiB"), (&[&client, "--follow"], "32GiB")]
    {
        let ran = run([&["capture"], words, &["--buffer", "100GiB", "--for", "1ms"]].concat());
        assert_eq!(ran.status, 1, "{ran:?}");
        assert!(ran.stderr.contains(&format!("  try: --buffer {limit}\n")), "{ran:?}");
    }
}
