//! The table of flows against tshark's conversations, and its opinion of what was sent again.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use snorkel_capture::flows::{Flow, Flows, Report};

use crate::pcap::File;
use crate::tools::{run, traffic};

fn report(path: &Path) -> Report {
    let file = File::read(path);
    let mut flows = Flows::new(1000);
    for packet in file.packets() {
        flows.add(file.interface.link_type, &packet);
    }
    flows.report()
}

/// One frame as tshark sees it, of those that match a filter.
fn matching(path: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(path).args(["-Y", filter, "-T", "fields", "-E", "separator=|"]);
    for field in fields {
        command.args(["-e", field]);
    }
    run(&mut command).lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
}

/// Packets and bytes that one end sent to the other, in tshark's words.
type Sums = BTreeMap<String, (u64, String)>;

/// Those of `tshark -z conv,PROTOCOL`.
fn conversations(path: &Path, protocol: &str) -> Sums {
    let text =
        run(Command::new("tshark").args(["-n", "-q", "-z", &format!("conv,{protocol}"), "-r"]).arg(path));
    let mut sums = Sums::new();
    for line in text.lines().filter(|line| line.contains(" <-> ")) {
        let words: Vec<&str> = line.split_whitespace().filter(|word| *word != "<->").collect();
        // The first numbers are of what goes from the second end to the first.
        for (from, to, at) in [(words[1], words[0], 2), (words[0], words[1], 5)] {
            let packets: u64 = words[at].parse().unwrap_or_else(|_| panic!("{line}"));
            if packets > 0 {
                sums.insert(
                    format!("{from} > {to}"),
                    (packets, format!("{} {}", words[at + 1], words[at + 2])),
                );
            }
        }
    }
    sums
}

fn ours(report: &Report, protocol: u8) -> Sums {
    let mut sums = Sums::new();
    for flow in report.flows.iter().filter(|flow| flow.protocol == protocol && flow.client.port.is_some()) {
        let [client, server] =
            [flow.client, flow.server].map(|end| format!("{}:{}", end.address, end.port.unwrap()));
        for (from, to, count) in [(&client, &server, flow.sent), (&server, &client, flow.received)] {
            let bytes = match count.bytes {
                bytes @ 0..10_000 => format!("{bytes} bytes"),
                bytes @ 10_000..10_000_000 => format!("{} kB", bytes / 1000),
                bytes => format!("{} MB", bytes / 1_000_000),
            };
            if count.packets > 0 {
                sums.insert(format!("{from} > {to}"), (count.packets, bytes));
            }
        }
    }
    sums
}

#[test]
fn packets_and_bytes_are_those_of_tsharks_conversations() {
    let traffic = traffic();
    for file in ["web.pcap", "lossy.pcap"] {
        let path = traffic.file(file);
        let report = report(&path);
        let tcp = ours(&report, 6);
        assert!(!tcp.is_empty());
        assert_eq!(tcp, conversations(&path, "tcp"), "{file}");
        assert_eq!(report.evicted, 0);
        let frames = matching(&path, "tcp && !icmp && !icmpv6", &["frame.len"]);
        let bytes: u64 = frames.iter().map(|row| row[0].parse::<u64>().unwrap()).sum();
        let mine: u64 =
            report.flows.iter().filter(|flow| flow.protocol == 6).map(|flow| flow.total().bytes).sum();
        assert_eq!(mine, bytes, "{file}, to the byte");
    }
    // tshark counts the outside of an overlay as well.
    let path = traffic.file("web.pcap");
    let (mut theirs, mut mine) = (conversations(&path, "udp"), ours(&report(&path), 17));
    theirs.retain(|ends, _| !ends.ends_with(":4789"));
    mine.retain(|ends, _| !ends.ends_with(":4789"));
    assert!(mine.len() > 10);
    assert_eq!(mine, theirs);
}

fn sum(report: &Report, of: impl Fn(&snorkel_capture::flows::Sender) -> u64) -> u64 {
    report
        .flows
        .iter()
        .filter_map(|flow| flow.tcp.as_ref())
        .map(|tcp| of(&tcp.client) + of(&tcp.server))
        .sum()
}

#[test]
fn what_was_sent_again_is_what_tshark_takes_for_it() {
    let traffic = traffic();
    let path = traffic.file("lossy.pcap");
    let report = report(&path);
    let count = |filter: &str| matching(&path, filter, &["frame.number"]).len() as u64;
    let again = sum(&report, |sender| sender.retransmissions);
    assert!(again > 10, "only {again} retransmissions where one segment in twenty was thrown away");
    assert_eq!(again, count("tcp.analysis.retransmission"));
    assert_eq!(sum(&report, |sender| sender.fast), count("tcp.analysis.fast_retransmission"));
    assert_eq!(sum(&report, |sender| sender.spurious), count("tcp.analysis.spurious_retransmission"));
    assert_eq!(sum(&report, |sender| sender.out_of_order), count("tcp.analysis.out_of_order"));
    assert_eq!(sum(&report, |sender| sender.gaps), count("tcp.analysis.lost_segment"));
    assert_eq!(sum(&report, |sender| sender.duplicate_acks), count("tcp.analysis.duplicate_ack"));
    assert_eq!(sum(&report, |sender| sender.zero_windows), count("tcp.analysis.zero_window"));
}

#[test]
fn resets_and_handshakes_are_those_of_tshark() {
    let traffic = traffic();
    let path = traffic.file("web.pcap");
    let report = report(&path);
    let resets = matching(&path, "tcp.flags.reset == 1", &["frame.number"]).len() as u64;
    assert!(resets > 0);
    assert_eq!(sum(&report, |sender| sender.resets), resets);
    // A machine that is busy enough makes a timer run out on a link that loses nothing.
    let again = matching(&path, "tcp.analysis.retransmission", &["frame.number"]).len() as u64;
    assert_eq!(sum(&report, |sender| sender.retransmissions), again);

    // A connection that was refused has a round trip too, but no handshake.
    let mut theirs = BTreeMap::new();
    for row in matching(
        &path,
        "tcp.analysis.initial_rtt && tcp.flags.reset == 0",
        &["tcp.port", "tcp.analysis.initial_rtt"],
    ) {
        let mut ports: Vec<u16> = row[0].split(',').map(|port| port.parse().unwrap()).collect();
        ports.sort_unstable();
        theirs.insert(ports, (row[1].parse::<f64>().unwrap() * 1e9).round() as u64);
    }
    let timed = |flow: &Flow| {
        let mut ports = vec![flow.client.port?, flow.server.port?];
        ports.sort_unstable();
        Some((ports, flow.tcp.as_ref()?.handshake?.total()))
    };
    let mine: BTreeMap<_, _> = report.flows.iter().filter_map(timed).collect();
    assert!(mine.len() > 5);
    assert_eq!(mine, theirs);
}
