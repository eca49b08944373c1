//! The account: what became of every packet, to the last one.

use std::fs;

use snorkel_lab::LabSpec;

use crate::common::{lab, target};
use crate::kit::{Capture, numbers, row, send, statistic, statistics};

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
        assert!(ran.stderr.contains("the ring was full") && ran.stderr.contains("--buffer"), "{ran:?}");
        assert_eq!(numbers(&file).len() as u64, captured);
        let told = statistics(&file);
        assert_eq!(
            [5, 6, 8].map(|code| statistic(&told[&0], code)),
            [Some(lost), Some(matched), Some(captured)]
        );
    }
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
