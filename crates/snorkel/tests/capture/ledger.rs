//! The account: what became of every packet, to the last one.

use std::fs;

use snorkel_lab::LabSpec;

use crate::common::{lab, target};
use crate::kit::{Capture, address, inside, numbers, row, seen, send, statistic, statistics};

const NUMBERED: &str = "udp dst port 9";

#[test]
fn every_packet_is_counted_once() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.pcapng");
    let words = [&target(&lab, "client"), "--fail-on-loss", "-w", file.to_str().unwrap(), "--", NUMBERED];
    let capture = Capture::start(&words);
    send(&lab, "client", 9, 0..20_000, 64);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(row(&ran, &format!("{}/client/eth0", lab.name)), [20_000, 0, 20_000], "{ran:?}");
    assert!(ran.stderr.contains("20,000 packets written"), "{ran:?}");
    assert!(numbers(&file).into_iter().eq(0..20_000));
}

#[test]
fn who_is_asked_to_end_twice_at_once_still_takes_what_is_in_the_ring() {
    let lab = lab(LabSpec::default());
    let (client, link) = (target(&lab, "client"), format!("{}/client/eth0", lab.name));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.pcapng");
    for _ in 0..5 {
        let capture = Capture::start(&[&client, "-w", file.to_str().unwrap(), "--", NUMBERED]);
        send(&lab, "client", 9, 0..1000, 64);
        // As timeout(1) does: the process, then its group.
        capture.signal(libc::SIGINT);
        std::thread::yield_now();
        capture.signal(libc::SIGTERM);
        let ran = capture.finish();
        assert_eq!((row(&ran, &link), ran.status), ([1000, 0, 1000], 0), "{ran:?}");
        assert!(seen(&ran, &link).is_some_and(|seen| seen >= 1000), "{ran:?}");
        assert!(numbers(&file).into_iter().eq(0..1000));
    }
}

#[test]
fn what_is_lost_is_told_to_the_last_packet() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let link = format!("{}/client/eth0", lab.name);
    for (words, status) in [(&["--fail-on-loss"][..], 3), (&[], 0)] {
        let file = dir.path().join("some.pcapng");
        let client = target(&lab, "client");
        let words =
            [&[&client, "--buffer", "512KiB", "-w", file.to_str().unwrap()], words, &["--", NUMBERED]]
                .concat();
        let capture = Capture::start(&words);
        // It sleeps while more comes than its ring holds.
        capture.signal(libc::SIGSTOP);
        let stopped = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", capture.pid())).unwrap();
            stat.rsplit(')').next().unwrap().trim().starts_with('T')
        };
        while !stopped() {
            std::thread::yield_now();
        }
        send(&lab, "client", 9, 0..5000, 1000);
        capture.signal(libc::SIGCONT);
        let ran = capture.stop();
        assert_eq!(ran.status, status, "{ran:?}");
        let [matched, lost, captured] = row(&ran, &link);
        assert_eq!(matched, 5000, "{ran:?}");
        assert!(lost > 3000 && lost + captured == matched, "{ran:?}");
        assert!(
            ran.stderr.contains("its ring of 524.3 kB was full") && ran.stderr.contains("--buffer"),
            "{ran:?}"
        );
        assert_eq!(numbers(&file).len() as u64, captured);
        let told = statistics(&file);
        assert_eq!(
            [5, 6, 8].map(|code| statistic(&told[&0], code)),
            [Some(lost), Some(matched), Some(captured)]
        );
    }
}

#[test]
fn what_the_filter_turned_away_is_the_difference_to_what_the_link_has_seen() {
    let lab = lab(LabSpec::default());
    let (client, link) = (target(&lab, "client"), format!("{}/client/eth0", lab.name));
    // Nothing is to pass while a capture begins or ends: that is seen, and rightly not captured. What nodes say by
    // themselves is IPv6, and which groups a bridge has joined (ip-sysctl, igmp_link_local_mcast_reports).
    for node in ["client", "web", "db", "switch"] {
        for (switch, value) in
            [("ipv6/conf/all/disable_ipv6", "1"), ("ipv4/igmp_link_local_mcast_reports", "0")]
        {
            inside(&lab, node, || std::fs::write(format!("/proc/sys/net/{switch}"), value)).unwrap();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("some.pcapng");
    // Also where another process has opened the link.
    for follow in [&[][..], &["--follow"]] {
        let all = Capture::start(&[&[client.as_str()], follow].concat());
        let words = [&client, "-w", file.to_str().unwrap()];
        let some = Capture::start(&[&words[..], follow, &["--", NUMBERED]].concat());
        send(&lab, "client", 9, 0..100, 32);
        send(&lab, "client", 10, 0..1000, 32);
        let (all, some) = (all.stop(), some.stop());
        assert_eq!(row(&some, &link), [100, 0, 100], "{some:?}");
        let on_link = seen(&some, &link).unwrap();
        assert!(on_link >= 1100, "{on_link} of 1,100 and a few more: {some:?}");
        assert_eq!(statistic(&statistics(&file)[&0], 4), Some(on_link));
        // Without a filter nothing is turned away.
        let [matched, lost, _] = row(&all, &link);
        assert_eq!((seen(&all, &link), lost), (Some(matched), 0), "{all:?}");
    }
}

#[test]
fn a_packet_on_the_loopback_is_one() {
    let lab = lab(LabSpec::default());
    let capture = Capture::start(&[&target(&lab, "client"), "-i", "lo"]);
    let here = address(&lab, "client");
    inside(&lab, "client", || {
        let socket = std::net::UdpSocket::bind((here, 0)).unwrap();
        let to = socket.local_addr().unwrap();
        (0..50).for_each(|_| assert_eq!(socket.send_to(b"x", to).unwrap(), 1));
    });
    let ran = capture.stop();
    let link = format!("{}/client/lo", lab.name);
    assert_eq!((row(&ran, &link), seen(&ran, &link)), ([50, 0, 50], Some(50)), "{ran:?}");
}

#[test]
fn what_reads_packets_has_no_rights() {
    // No right is left, and nothing can be asked of the kernel but what reading takes.
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let client = target(&lab, "client");
    let file = dir.path().join("x.pcapng");
    for words in [&[][..], &["-w", file.to_str().unwrap()], &["--follow"]] {
        let capture = Capture::start(&[&[client.as_str()], words].concat());
        let status = fs::read_to_string(format!("/proc/{}/status", capture.pid())).unwrap();
        for line in
            ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
        {
            assert!(status.lines().any(|found| found == line), "{words:?}: {line} is not in\n{status}");
        }
        assert_eq!(capture.stop().status, 0);
    }
}
