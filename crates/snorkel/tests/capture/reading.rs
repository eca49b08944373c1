//! `snorkel read`: snorkel's own files and those of others, whole, packed and damaged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use snorkel_lab::LabSpec;

use crate::common::{Ran, good, lab, run, snorkel, target};
use crate::kit::{Capture, PACKET, blocks, fetch, send, tshark};

/// A capture of a fetched page and some datagrams.
struct Sample {
    dir: tempfile::TempDir,
    file: PathBuf,
    lab: String,
}

impl Sample {
    fn new() -> Sample {
        let lab = lab(LabSpec::default());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sample.pcapng");
        let capture = Capture::start(&[&target(&lab, "client"), "-w", file.to_str().unwrap(), "--", "ip"]);
        fetch(&lab);
        fetch(&lab);
        send(&lab, "client", 9, 0..40, 100);
        assert_eq!(capture.stop().status, 0);
        Sample { dir, file, lab: lab.name.clone() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

#[track_caller]
fn read(file: &Path, words: &[&str]) -> Ran {
    run([&["read", file.to_str().unwrap()], words].concat())
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

#[test]
fn every_form_of_a_capture_is_read_alike() {
    let sample = Sample::new();
    let lines = good(["read", sample.file.to_str().unwrap(), "-n", "--time", "epoch", "--nano"]);
    assert!(lines.lines().count() > 50, "{lines}");
    // Packed, under any name, from a pipe.
    for (packer, name) in [("gzip", "sample.gz"), ("zstd", "sample.zst")] {
        let packed = Command::new(packer).args(["-q", "-c"]).arg(&sample.file).output().unwrap().stdout;
        for name in [name, "of-no-suffix"] {
            fs::write(sample.path(name), &packed).unwrap();
            let ran = read(&sample.path(name), &["-n", "--time", "epoch", "--nano"]);
            assert_eq!((ran.status, ran.stdout.as_str()), (0, lines.as_str()), "{name}: {}", ran.stderr);
        }
    }
    let piped = snorkel(["read", "-", "-n", "--time", "epoch", "--nano"])
        .stdin(fs::File::open(&sample.file).unwrap())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&piped.stdout), lines);
    // Other tools' files know nothing of links and directions: the rest of the line is the same.
    let rest = |lines: &str| {
        lines
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .map(|words| {
                let at = words.iter().position(|word| *word == ">").unwrap();
                [&words[..1], &words[at - 1..]].concat().join(" ")
            })
            .collect::<Vec<_>>()
    };
    let plain = good(["read", sample.file.to_str().unwrap(), "-n", "--time", "epoch"]);
    for (kind, name) in [("pcap", "old.pcap"), ("nsecpcap", "nano.pcap"), ("pcapng", "other.pcapng")] {
        let other = sample.path(name);
        succeed(Command::new("editcap").args(["-F", kind]).arg(&sample.file).arg(&other));
        let ran = read(&other, &["-n", "--time", "epoch"]);
        assert_eq!((ran.status, rest(&ran.stdout)), (0, rest(&plain)), "{kind}: {}", ran.stderr);
    }
    let tcpdump = sample.path("tcpdump.pcap");
    succeed(Command::new("tcpdump").args(["-Z", "root", "-r"]).arg(&sample.file).arg("-w").arg(&tcpdump));
    assert_eq!(rest(&read(&tcpdump, &["-n", "--time", "epoch"]).stdout), rest(&plain));
}

#[test]
fn names_and_links_come_out_of_the_file() {
    let sample = Sample::new();
    let ran = read(&sample.file, &["-c", "1", "--", "tcp dst port 80 and tcp[tcpflags] & tcp-syn != 0"]);
    assert_eq!((ran.status, ran.stdout.lines().count()), (0, 1), "{ran:?}");
    assert!(ran.stdout.contains(&format!("{}/client/eth0 out", sample.lab)), "{ran:?}");
    assert!(ran.stdout.contains(&format!("> {}/web:80 TCP [S]", sample.lab)), "{ran:?}");
    let ran = read(&sample.file, &["--json", "--", "outbound and udp port 9"]);
    let objects: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 40, "{ran:?}");
    assert!(objects.iter().all(|object| object["udp"]["destination"] == 9), "{ran:?}");
    let ran = read(&sample.file, &["--", "inbound and udp port 9"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{ran:?}");
    let ran = read(&sample.file, &["--", "tcp prot 80"]);
    assert!(ran.status == 1 && ran.stderr.contains('^'), "{ran:?}");
}

#[test]
fn the_table_of_flows_agrees_with_tshark() {
    let sample = Sample::new();
    let conversations = tshark(&sample.file, &["-q", "-z", "conv,tcp"]);
    // Per connection: frames and bytes from the server, to it, and both (tshark(1)).
    let mut theirs = BTreeMap::new();
    for line in conversations.lines().filter(|line| line.contains("<->")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = words[0].rsplit(':').next().unwrap().parse::<u64>().unwrap();
        let numbers: Vec<u64> = words[3..].iter().filter_map(|word| word.parse().ok()).collect();
        // "2 684 bytes": what is larger has another unit.
        assert_eq!(words.iter().filter(|word| **word == "bytes").count(), 3, "{line}");
        theirs.insert(port, [numbers[0], numbers[1], numbers[2], numbers[3]]);
    }
    let stats: serde_json::Value = serde_json::from_str(&good([
        "read",
        sample.file.to_str().unwrap(),
        "--stats",
        "--json",
        "--",
        "tcp",
    ]))
    .unwrap();
    let mut ours = BTreeMap::new();
    for flow in stats["flows"].as_array().unwrap() {
        assert_eq!(
            (&flow["link"], &flow["interface"]),
            (&format!("{}/client/eth0", sample.lab).into(), &0.into())
        );
        let number = |way: &str, what: &str| flow[way][what].as_u64().unwrap();
        ours.insert(
            flow["client"]["port"].as_u64().unwrap(),
            [
                number("received", "packets"),
                number("received", "bytes"),
                number("sent", "packets"),
                number("sent", "bytes"),
            ],
        );
    }
    assert_eq!(ours.len(), 2, "{stats:#}");
    assert_eq!(ours, theirs, "{conversations}");
    let table = good(["read", sample.file.to_str().unwrap(), "--stats"]);
    assert!(table.contains("PROTO") && table.contains(&format!("{}/web:80", sample.lab)), "{table}");
    assert!(
        table.lines().any(|line| line.starts_with("udp") && line.contains(":9 ") && line.contains(" 40 ")),
        "{table}"
    );
}

#[test]
fn a_file_that_is_cut_short_gives_all_whole_packets_and_says_so() {
    let sample = Sample::new();
    let bytes = fs::read(&sample.file).unwrap();
    let (all, _) = blocks(&bytes);
    // Where each block ends, and how many packets there are by then.
    let mut ends = vec![(0, 0)];
    for (kind, body) in &all {
        let (at, packets) = *ends.last().unwrap();
        ends.push((at + 12 + body.len(), packets + usize::from(*kind == PACKET)));
    }
    let cut = sample.path("cut.pcapng");
    let middle = ends[ends.len() / 2].0;
    for length in (middle..middle + 260).step_by(7).chain([28, 29, bytes.len() - 1]) {
        fs::write(&cut, &bytes[..length]).unwrap();
        let (end, packets) = *ends.iter().rev().find(|(end, _)| *end <= length).unwrap();
        let ran = read(&cut, &[]);
        assert_eq!(ran.stdout.lines().count(), packets, "{length} bytes: {ran:?}");
        assert_eq!(ran.status, i32::from(end != length), "{length} bytes: {}", ran.stderr);
        assert_eq!(ran.stderr.lines().count() > 0, end != length, "{length} bytes: {}", ran.stderr);
        assert!(!ran.stderr.contains("panic"), "{}", ran.stderr);
        // The table is printed too, of what was there.
        let ran = read(&cut, &["--stats"]);
        assert_eq!((ran.status, ran.stdout.contains("PROTO")), (i32::from(end != length), true), "{ran:?}");
    }
    let packed = Command::new("zstd").args(["-q", "-c"]).arg(&sample.file).output().unwrap().stdout;
    fs::write(&cut, &packed[..packed.len() / 2]).unwrap();
    let ran = read(&cut, &[]);
    assert!(ran.status == 1 && ran.stderr.contains("cut short"), "{ran:?}");
}

#[test]
fn what_is_no_capture_or_is_damaged_is_said_in_one_line() {
    let sample = Sample::new();
    let bytes = fs::read(&sample.file).unwrap();
    let other = sample.path("other");
    for (what, content) in [
        ("nothing", Vec::new()),
        ("text", b"hello, this is no capture at all\n".to_vec()),
        ("zeros", vec![0; 4096]),
        ("only a magic", bytes[..4].to_vec()),
        ("only gzip's", vec![0x1f, 0x8b]),
    ] {
        fs::write(&other, content).unwrap();
        let ran = read(&other, &[]);
        assert_eq!((ran.status, ran.stdout.as_str()), (1, ""), "{what}: {ran:?}");
        assert!(ran.stderr.starts_with("snorkel: ") && ran.stderr.lines().count() <= 3, "{what}: {ran:?}");
    }
    // A length that lies, in the middle: what stands before it is printed.
    let (all, _) = blocks(&bytes);
    let before: usize = all[..all.len() / 2].iter().map(|(_, body)| body.len() + 12).sum();
    let packets = all[..all.len() / 2].iter().filter(|(kind, _)| *kind == PACKET).count();
    for lie in [3u32, 13, 0x7fff_fffc, u32::MAX] {
        let mut bytes = bytes.clone();
        bytes[before + 4..before + 8].copy_from_slice(&lie.to_le_bytes());
        fs::write(&other, bytes).unwrap();
        let ran = read(&other, &[]);
        assert_eq!((ran.status, ran.stdout.lines().count()), (1, packets), "{lie}: {ran:?}");
        assert!(ran.stderr.contains("byte"), "{lie}: {ran:?}");
    }
    let ran = read(Path::new("/no/such/file"), &[]);
    assert!(ran.status == 1 && ran.stderr.contains("/no/such/file"), "{ran:?}");
    let ran = read(sample.dir.path(), &[]);
    assert!(ran.status == 1 && ran.stderr.contains("directory"), "{ran:?}");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let sample = Sample::new();
    // Far more than a pipe holds.
    let large = sample.path("large.pcapng");
    succeed(Command::new("mergecap").arg("-a").arg("-w").arg(&large).args(vec![&sample.file; 100]));
    for words in [&[][..], &["--json"], &["-X"]] {
        let mut child = snorkel([&["read", large.to_str().unwrap()], words].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert!(ran.stderr.is_empty() && (ran.status == 0 || ran.status == 128 + 13), "{ran:?}");
    }
}

#[test]
fn a_mistake_in_the_filter_is_told_of_a_capture_without_packets_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("empty.pcap");
    // The header alone: version 2.4, Ethernet (pcap-savefile(5)).
    fs::write(&file, [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0])
        .unwrap();
    for words in [&[][..], &["--stats"]] {
        let wrong = read(&file, &[words, &["--", "tcp prot 80"]].concat());
        assert!(wrong.status != 0 && wrong.stderr.contains("prot"), "{wrong:?}");
        let right = read(&file, &[words, &["--", "tcp port 80"]].concat());
        assert_eq!(right.status, 0, "{right:?}");
    }
}

#[test]
fn a_full_disk_below_stdout_is_told_with_what_was_being_done() {
    let sample = Sample::new();
    for words in [&[][..], &["--json"], &["--stats"]] {
        let mut command = snorkel([&["read", sample.file.to_str().unwrap()], words].concat());
        command.stdout(fs::File::create("/dev/full").unwrap());
        let ran = Ran::from(command.output().unwrap());
        let told = "snorkel: cannot write to stdout: No space left on device";
        assert!(ran.status == 1 && ran.stderr.starts_with(told), "{words:?}: {ran:?}");
    }
}
