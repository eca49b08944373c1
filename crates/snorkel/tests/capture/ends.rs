//! Links, containers and readers that go away in mid-capture; the flight recorder; both ends of a link compared.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use snorkel_lab::{Kind, LabSpec, NodeSpec, Scoped};

use crate::common::{lab, snorkel, target};
use crate::kit::{Capture, address, echo, inside, numbers, row, seen, send};
use crate::xdp::Xdp;

const NUMBERED: &str = "udp dst port 9";

/// `ip` in a node's network.
#[track_caller]
pub(crate) fn ip(lab: &Scoped, node: &str, words: &[&str]) {
    let status = inside(lab, node, || Command::new("ip").args(words).status().unwrap());
    assert!(status.success(), "ip {words:?}");
}

#[test]
fn a_link_that_is_set_down_is_told_and_goes_on_when_it_is_up() {
    let lab = lab(LabSpec::default());
    let mut capture = Capture::start(&[&target(&lab, "client"), &target(&lab, "web"), "--", NUMBERED]);
    send(&lab, "client", 9, 0..3, 32);
    ip(&lab, "client", &["link", "set", "eth0", "down"]);
    capture.wait_for_word("client/eth0 is down");
    ip(&lab, "client", &["link", "set", "eth0", "up"]);
    send(&lab, "client", 9, 3..5, 32);
    capture.wait_for_word("client/eth0 is up again");
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/client/eth0", lab.name)), [5, 0, 5], "{ran:?}");
}

#[test]
fn a_link_that_is_deleted_ends_and_the_others_go_on() {
    let mut two = NodeSpec::new("two", Kind::Idle);
    two.links = 2;
    let lab = lab(LabSpec::of(vec![two, NodeSpec::new("db", Kind::Db)]));
    let mut capture = Capture::start(&[&target(&lab, "two"), "--", NUMBERED]);
    ip(&lab, "two", &["link", "del", "eth1"]);
    capture.wait_for_word("two/eth1 is gone");
    send(&lab, "two", 9, 0..4, 32);
    ip(&lab, "two", &["link", "del", "eth0"]);
    // With its last link the capture ends by itself.
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains("two/eth0 is gone"), "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/two/eth0", lab.name)), [4, 0, 4], "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/two/eth1", lab.name)), [0, 0, 0], "{ran:?}");
    // Its counters have gone with it, and nothing is made up for them.
    assert_eq!(seen(&ran, &format!("{}/two/eth1", lab.name)), None, "{ran:?}");
    assert_eq!(ran.stdout.lines().count(), 4);
}

#[test]
fn a_node_that_is_killed_is_told_and_the_others_go_on() {
    let lab = lab(LabSpec::default());
    let mut capture = Capture::start(&[&target(&lab, "client"), &target(&lab, "web"), "--", NUMBERED]);
    let pid = lab.node("web").unwrap().pid.unwrap();
    // SAFETY: signals a process of this test's own lab, which holds it unreaped until it is told.
    unsafe { libc::kill(pid.get(), libc::SIGKILL) };
    capture.wait_for_word("web ended");
    send(&lab, "client", 9, 0..4, 32);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/client/eth0", lab.name)), [4, 0, 4], "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/web/eth0", lab.name)), [0, 0, 0], "{ran:?}");
}

#[test]
fn the_recorder_writes_what_came_before_its_trigger() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("why.pcapng");
    let client = target(&lab, "client");
    let recorder = |trigger: &str, after: &str| {
        let words = [
            "-w",
            file.to_str().unwrap(),
            "--ring",
            "10m",
            "--ring-size",
            "16MiB",
            "--trigger",
            trigger,
            "--after",
            after,
        ];
        Capture::start(
            &[&[client.as_str()], &words[..], &["--", "udp dst port 9 or udp dst port 10"]].concat(),
        )
    };

    // A packet that fits: what came before is there, and what comes after, for so long.
    let capture = recorder("udp dst port 10", "1ms");
    send(&lab, "client", 9, 0..50, 32);
    send(&lab, "client", 10, 0..1, 32);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(numbers(&file).into_iter().eq(0..50));

    // What comes after it belongs to it.
    let capture = recorder("udp dst port 10", "10m");
    send(&lab, "client", 10, 0..1, 32);
    send(&lab, "client", 9, 0..50, 32);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(numbers(&file).into_iter().eq(0..50));

    // A signal.
    let capture = recorder("signal", "1ms");
    send(&lab, "client", 9, 0..20, 32);
    capture.signal(libc::SIGUSR1);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(numbers(&file).into_iter().eq(0..20), "{ran:?}");

    // No trigger: no packet.
    let capture = recorder("udp dst port 10", "1ms");
    send(&lab, "client", 9, 0..20, 32);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains("the trigger did not come: no packet was written"), "{ran:?}");
    assert!(numbers(&file).is_empty());

    // The target's end.
    let capture = recorder("exit", "1ms");
    send(&lab, "client", 9, 0..20, 32);
    let pid = lab.node("client").unwrap().pid.unwrap();
    // SAFETY: signals a process of this test's own lab, which holds it unreaped until it is told.
    unsafe { libc::kill(pid.get(), libc::SIGKILL) };
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(numbers(&file).into_iter().eq(0..20), "{ran:?}");
}

#[test]
fn the_recorder_writes_what_it_holds_when_nothing_is_left_to_capture() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last.pcapng");
    let client = target(&lab, "client");
    let recorder = ["--ring", "10m", "--ring-size", "16MiB", "--trigger", "signal"];
    let words = [&[client.as_str(), "-w", file.to_str().unwrap()], &recorder[..], &["--", NUMBERED]].concat();
    let capture = Capture::start(&words);
    send(&lab, "client", 9, 0..20, 32);
    let pid = lab.node("client").unwrap().pid.unwrap();
    // SAFETY: signals a process of this test's own lab, which holds it unreaped until it is told.
    unsafe { libc::kill(pid.get(), libc::SIGKILL) };
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(numbers(&file).into_iter().eq(0..20), "{ran:?}");
}

#[test]
fn what_is_typed_at_the_terminal_does_not_end_it() {
    let lab = lab(LabSpec::default());
    let (mut terminal, stdout) = UnixStream::pair().unwrap();
    let mut command = snorkel(["capture", &target(&lab, "client"), "-c", "3", "--", NUMBERED]);
    command.stdout(OwnedFd::from(stdout));
    let capture = Capture::into(command);
    terminal.write_all(b"\n").unwrap();
    send(&lab, "client", 9, 0..3, 32);
    let lines: Vec<String> = BufReader::new(terminal).lines().map_while(Result::ok).take(3).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(capture.finish().status, 0);
}

#[test]
fn broadcasts_are_those_of_the_links_own_network() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let capture = Capture::start(&[&client, "-c", "1", "--", "ip broadcast and udp"]);
    send(&lab, "client", 9, 0..3, 32);
    inside(&lab, "client", || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.send_to(b"everybody", "198.19.255.255:9").unwrap();
    });
    let ran = capture.finish();
    assert!(ran.status == 0 && ran.stdout.contains("198.19.255.255:9"), "{ran:?}");
}

#[test]
fn nothing_is_in_the_recorders_file_before_the_trigger() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("later.pcapng");
    let words = [
        "-w",
        file.to_str().unwrap(),
        "--ring",
        "10m",
        "--ring-size",
        "16MiB",
        "--trigger",
        "signal",
        "--after",
        "10m",
    ];
    let capture =
        Capture::start(&[&[target(&lab, "client").as_str()], &words[..], &["--", NUMBERED]].concat());
    // More than any buffer between would hold back.
    send(&lab, "client", 9, 0..5000, 1000);
    assert!(std::fs::metadata(&file).unwrap().len() < 100_000);
    capture.signal(libc::SIGUSR1);
    while std::fs::metadata(&file).unwrap().len() < 5_000_000 {
        std::thread::yield_now();
    }
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(numbers(&file).into_iter().eq(0..5000));
}

#[test]
fn the_recorder_keeps_the_last_seconds_and_no_more_memory_than_it_may() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("last.pcapng");
    let words = ["--ring", "10m", "--ring-size", "2MiB", "--trigger", "signal", "--after", "1ms", "-w"];
    let client = target(&lab, "client");
    let capture =
        Capture::start(&[&[client.as_str()], &words[..], &[file.to_str().unwrap(), "--", NUMBERED]].concat());
    send(&lab, "client", 9, 0..10_000, 1000);
    capture.signal(libc::SIGUSR1);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains("--ring-size"), "{ran:?}");
    let kept = numbers(&file);
    assert!(kept.len() > 500 && kept.len() < 2200, "{} packets of 1 kB were kept in 2 MiB", kept.len());
    assert!(kept.iter().copied().eq(10_000 - kept.len() as u32..10_000), "they are not the last ones");
}

#[test]
fn what_vanishes_or_changes_between_both_ends_is_told() {
    let lab = lab(LabSpec::default());
    // On the switch's end: datagrams to port 9 are dropped before anybody sees them there, those to port 10 get the TTL 7.
    let _between = inside(&lab, "switch", || Xdp::on("vethclient"));
    let capture = Capture::start(&[&target(&lab, "client"), "--side", "both", "--pair", "--", "udp"]);
    send(&lab, "client", 9, 0..5, 32);
    send(&lab, "client", 10, 0..3, 32);
    send(&lab, "client", 11, 0..4, 32);
    // What is under way for a second is not given up: answers to this come after it.
    echo(&lab, "client");
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    let (own, other) = (format!("{}/client/eth0", lab.name), format!("{}/switch/vethclient", lab.name));
    let line = |from: &str, to: &str| {
        let begin = format!("{from} → {to}: ");
        let line = ran.stderr.lines().find_map(|line| line.strip_prefix(&begin));
        line.unwrap_or_else(|| panic!("{begin} is not in {ran:?}")).to_owned()
    };
    // Four times echo's question and answer stand between the numbered ones.
    let out = line(&own, &other);
    assert!(out.starts_with("8 the same, 3 rewritten, "), "{ran:?}");
    // Those that were sent shortly before the end may still come: they are not held for gone.
    let gone: Vec<u64> =
        out.split(", ").skip(2).map(|part| part.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(gone.iter().sum::<u64>(), 5, "{ran:?}");
    assert_eq!(line(&other, &own), "4 the same, 0 rewritten, 0 vanished", "{ran:?}");
    assert!(ran.stderr.contains("rewritten: TTL in 3"), "{ran:?}");
}

#[test]
fn each_link_is_compared_with_its_own_other_end() {
    let mut two = NodeSpec::new("two", Kind::Idle);
    two.links = 2;
    let lab = lab(LabSpec::of(vec![two, NodeSpec::new("db", Kind::Db), NodeSpec::new("web", Kind::Web)]));
    // Only what comes in on the switch's end of the second link is touched.
    let _between = inside(&lab, "switch", || Xdp::on("vethtwo.1"));
    // The second link has a way of its own to db.
    let db = address(&lab, "db").to_string();
    let words = ["--side", "both", "--pair", "--", "udp dst portrange 9-11"];
    let capture =
        Capture::start(&[&[target(&lab, "two").as_str(), &target(&lab, "web")], &words[..]].concat());
    send(&lab, "two", 10, 0..6, 32);
    ip(&lab, "two", &["route", "replace", &format!("{db}/32"), "dev", "eth1"]);
    send(&lab, "two", 10, 0..4, 32);
    send(&lab, "web", 10, 0..5, 32);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    let of = |from: &str, to: &str| format!("{0}/{from} → {0}/{to}: ", lab.name);
    for (line, tally) in [
        (of("two/eth0", "switch/vethtwo"), "6 the same, 0 rewritten, 0 vanished"),
        (of("two/eth1", "switch/vethtwo.1"), "0 the same, 4 rewritten, 0 vanished"),
        (of("web/eth0", "switch/vethweb"), "5 the same, 0 rewritten, 0 vanished"),
        (of("switch/vethtwo.1", "two/eth1"), "0 the same, 0 rewritten, 0 vanished"),
    ] {
        assert!(ran.stderr.contains(&format!("{line}{tally}\n")), "{line}{tally}: {ran:?}");
    }
    assert!(ran.stderr.contains("  rewritten: TTL in 4\n"), "{ran:?}");
}

#[test]
fn a_packet_that_is_not_seen_again_for_a_second_has_vanished() {
    let lab = lab(LabSpec::default());
    let _between = inside(&lab, "switch", || Xdp::on("vethclient"));
    let words = ["--side", "both", "--pair", "--time", "epoch", "--", "udp"];
    let mut capture = Capture::start(&[&[target(&lab, "client").as_str()], &words[..]].concat());
    send(&lab, "client", 9, 0..5, 32);
    // By the packets' own clock a second passes.
    let time = |line: &str| line.split_whitespace().next().unwrap().parse::<f64>().unwrap();
    let first = time(&capture.wait_for_line(" UDP"));
    loop {
        echo(&lab, "client");
        if time(&capture.wait_for_line(" UDP")) > first + 1.1 {
            break;
        }
    }
    let ran = capture.stop();
    assert!(ran.stderr.contains("0 rewritten, 5 vanished\n"), "{}", ran.stderr);
}

#[test]
fn without_root_one_line_says_what_is_missing() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = dir.path().join("snorkel");
    std::fs::copy(crate::common::SNORKEL, &copy).unwrap();
    let pid = lab.node("web").unwrap().pid.unwrap();
    for words in
        [&[target(&lab, "web")][..], &[format!("pid:{pid}")], &[target(&lab, "web"), "--follow".to_owned()]]
    {
        let ran: crate::common::Ran = Command::new(&copy)
            .arg("capture")
            .args(words)
            .uid(65534)
            .gid(65534)
            .env_remove("SUDO_UID")
            .output()
            .unwrap()
            .into();
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{words:?}: {ran:?}");
        let said: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(said.len(), 2, "{words:?}: {ran:?}");
        assert!(said[0].contains("CAP_NET_RAW") && said[1].contains("sudo"), "{words:?}: {ran:?}");
        assert!(!ran.stderr.contains("capturing on"), "{words:?}: {ran:?}");
    }
    // A file can be read by anybody.
    let ran = snorkel(["read", "--help"]).output().unwrap();
    assert!(ran.status.success());
}

#[test]
fn a_capture_into_a_file_does_not_care_for_stdout() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.pcapng");
    let (read, write) = std::io::pipe().unwrap();
    let mut command =
        snorkel(["capture", &target(&lab, "client"), "-w", file.to_str().unwrap(), "--", NUMBERED]);
    command.stdout(write);
    let capture = Capture::into(command);
    drop(read);
    send(&lab, "client", 9, 0..30, 32);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(numbers(&file).into_iter().eq(0..30));
}

#[test]
fn it_goes_on_when_the_terminal_is_gone_if_that_is_wanted() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    // As nohup(1) does it.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' HUP; exec \"$@\"",
        "sh",
        crate::common::SNORKEL,
        "capture",
        &client,
        "--",
        NUMBERED,
    ]);
    let mut capture = Capture::run(command);
    capture.signal(libc::SIGHUP);
    send(&lab, "client", 9, 0..3, 32);
    capture.wait_for_line(":9 UDP");
    assert_eq!(capture.stop().status, 0);
    // Otherwise it ends, and keeps what it has.
    let capture = Capture::start(&[&client, "--", NUMBERED]);
    send(&lab, "client", 9, 0..3, 32);
    capture.signal(libc::SIGHUP);
    let ran = capture.finish();
    assert_eq!((ran.status, ran.stdout.lines().count()), (0, 3), "{ran:?}");
}

#[test]
fn the_terminals_ctrl_c_ends_one_that_follows_without_a_word_of_trouble() {
    use std::os::unix::process::CommandExt;
    let lab = lab(LabSpec::default());
    let mut command = snorkel(["capture", &target(&lab, "client"), "--follow", "--", NUMBERED]);
    command.process_group(0);
    let capture = Capture::run(command);
    send(&lab, "client", 9, 0..3, 32);
    // Only the reader is in the foreground group: the opener does not end before it.
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", capture.pid())).unwrap();
    let opener = rustix::process::Pid::from_raw(children.trim().parse().unwrap());
    assert_ne!(rustix::process::getpgid(opener).unwrap().as_raw_pid(), capture.pid().cast_signed());
    capture.signal_group(libc::SIGINT);
    let ran = capture.finish();
    assert_eq!((ran.status, ran.stdout.lines().count()), (0, 3), "{ran:?}");
    assert!(!ran.stderr.contains("warning"), "{ran:?}");
}

#[test]
fn without_its_opener_it_goes_on_with_what_it_has() {
    let lab = lab(LabSpec::default());
    let mut capture = Capture::start(&[&target(&lab, "client"), "--follow", "--", NUMBERED]);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", capture.pid())).unwrap();
    let opener: i32 = children.trim().parse().unwrap();
    // SAFETY: signals a child of this test's own child, which does not reap it before it has ended itself.
    unsafe { libc::kill(opener, libc::SIGKILL) };
    capture.wait_for_word("the process that opens links has ended");
    send(&lab, "client", 9, 0..3, 32);
    let ran = capture.stop();
    assert_eq!((ran.status, ran.stdout.lines().count()), (0, 3), "{ran:?}");
}

#[test]
fn a_terminal_is_shown_how_it_grows() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let client = target(&lab, "client");
    let words = format!(
        "{} capture {client} -w {} --for 1500ms -- {NUMBERED}",
        crate::common::SNORKEL,
        dir.path().join("x.pcapng").display()
    );
    let mut command = Command::new("script");
    command.args(["-qec", &words]).arg(dir.path().join("typescript"));
    // All of the terminal comes out of script's stdout.
    let mut capture = Capture::unheard(command);
    capture.wait_for_line("capturing on");
    send(&lab, "client", 9, 0..30, 32);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.stdout.contains("\r\u{1b}[K30 packets, "), "{ran:?}");
    assert!(ran.stdout.contains(" 0 lost; file "), "{ran:?}");
}

#[test]
fn packets_that_never_pause_do_not_keep_it_from_ending_in_time() {
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = || {
            let db = SocketAddr::new(address(&lab, "db"), 9);
            inside(&lab, "client", || {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                while !over.load(Ordering::Relaxed) {
                    // Nobody listens there, which the next sending is told.
                    let _ = socket.send_to(&[0; 20], db);
                }
            });
        };
        let floods = [scope.spawn(flood), scope.spawn(flood)];
        // An object for each of so many packets takes longer than sending them.
        let mut command = snorkel(["capture", client.as_str(), "--json", "--for", "500ms"]);
        command.stdout(Stdio::null());
        let capture = Capture::into(command);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| capture.finish()));
        over.store(true, Ordering::Relaxed);
        floods.into_iter().for_each(|flood| flood.join().unwrap());
        let ran = ran.expect("it ends");
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(ran.stderr.contains("/eth0"), "{ran:?}");
    });
}
