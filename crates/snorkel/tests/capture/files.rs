//! What `-w` leaves: files that Wireshark's tools read without a complaint, however the capture ended.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use snorkel_lab::LabSpec;

use crate::common::{Ran, lab, run, snorkel, target};
use crate::kit::{
    Capture, INTERFACE, NAMES, PACKET, STATISTICS, blocks, capinfos, echo, fetch, numbers, option, send,
    statistic, statistics, tshark,
};

/// Only what [`send`] sends.
const NUMBERED: &str = "udp dst port 9";

/// All files in a directory that hold something of a capture, in the order in which they were made.
fn captures(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn a_file_tells_wireshark_where_each_packet_was_seen() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.pcapng");
    let (client, web) = (target(&lab, "client"), target(&lab, "web"));
    let capture = Capture::start(&[&client, &web, "-w", file.to_str().unwrap()]);
    echo(&lab, "client");
    fetch(&lab);
    let ran = capture.stop();
    assert_eq!((ran.status, ran.stdout.as_str()), (0, ""), "{ran:?}");

    let infos = capinfos(&file);
    assert!(infos.contains("pcapng") && infos.contains("Number of interfaces in file: 2"), "{infos}");
    let links = [format!("{}/client/eth0", lab.name), format!("{}/web/eth0", lab.name)];
    for link in &links {
        assert!(infos.contains(&format!("Name = {link}")), "{infos}");
    }
    assert!(infos.contains("Time precision = nanoseconds"), "{infos}");
    assert_eq!(infos.matches("Number of stat entries = 1").count(), 2, "{infos}");
    for (target, node) in [(&client, "client"), (&web, "web")] {
        let netns = fs::read_link(format!("/proc/{}/ns/net", lab.node(node).unwrap().pid.unwrap())).unwrap();
        let line = infos.lines().find(|line| line.contains("Description") && line.contains(target.as_str()));
        let line = line.unwrap_or_else(|| panic!("{target} is not described in {infos}"));
        assert!(
            line.contains(&netns.display().to_string().replace(['[', ']'], ""))
                || line.contains(netns.to_str().unwrap()),
            "{line}"
        );
        assert!(line.contains(&format!("peer veth{node}")), "{line}");
    }

    // The request left the one and came to the other: 1 is inbound, 2 is outbound.
    let seen = tshark(
        &file,
        &[
            "-Y",
            "tcp.len > 0 && tcp.dstport == 80",
            "-T",
            "fields",
            "-e",
            "frame.interface_name",
            "-e",
            "frame.packet_flags_direction",
        ],
    );
    let seen: Vec<Vec<&str>> = seen.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    for (link, direction) in [(&links[0], 2u32), (&links[1], 1)] {
        let way = seen.iter().find(|line| line[0] == link).expect("the link is there")[1];
        let way = u32::from_str_radix(way.trim_start_matches("0x"), 16).unwrap();
        assert_eq!(way, direction, "{seen:?}");
    }
    // Names come from the file: nobody is asked.
    let named = Command::new("tshark")
        .arg("-r")
        .arg(&file)
        .args(["-N", "n", "-Y", "tcp.len > 0 && tcp.dstport == 80", "-T", "fields", "-e", "ip.dst_host"])
        .output()
        .unwrap();
    let named = String::from_utf8_lossy(&named.stdout).into_owned();
    assert!(named.lines().all(|line| line == format!("{}/web", lab.name)) && !named.is_empty(), "{named}");

    let bytes = fs::read(&file).unwrap();
    let (all, rest) = blocks(&bytes);
    let count = |kind: u32| all.iter().filter(|(found, _)| *found == kind).count();
    assert_eq!(rest, 0);
    assert!(count(INTERFACE) == 2 && count(NAMES) >= 1 && count(STATISTICS) == 2, "{all:?}");
    let packets = count(PACKET) as u64;
    let told = statistics(&file);
    let sum = |code| told.values().map(|body| statistic(body, code).expect("it is told")).sum::<u64>();
    assert_eq!((sum(4), sum(5), sum(8)), (packets, 0, packets), "received, dropped, delivered");
    assert!(told.values().all(|body| option(body, 12, 2).is_some() && option(body, 12, 3).is_some()));
}

#[test]
fn lines_of_a_file_agree_with_tshark() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("one.pcapng");
    let capture = Capture::start(&[&target(&lab, "client"), "-w", file.to_str().unwrap(), "--", "tcp"]);
    fetch(&lab);
    capture.stop();
    let fields = tshark(
        &file,
        &[
            "-T",
            "fields",
            "-e",
            "tcp.srcport",
            "-e",
            "tcp.dstport",
            "-e",
            "tcp.len",
            "-e",
            "tcp.seq_raw",
            "-e",
            "tcp.flags",
        ],
    );
    let ran = run(["read", file.to_str().unwrap(), "-n", "-S", "--time", "none"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(fields.lines().count(), ran.stdout.lines().count());
    for (fields, line) in fields.lines().zip(ran.stdout.lines()) {
        let fields: Vec<&str> = fields.split('\t').collect();
        let flags = u32::from_str_radix(fields[4].trim_start_matches("0x"), 16).unwrap();
        let mut letters: String = [(1, 'F'), (2, 'S'), (4, 'R'), (8, 'P')]
            .iter()
            .filter(|(bit, _)| flags & bit != 0)
            .map(|(_, c)| *c)
            .collect();
        letters.extend((flags & 16 != 0).then_some('.'));
        let length: u64 = fields[2].parse().unwrap();
        for word in [
            format!(":{} > ", fields[0]),
            format!(":{} TCP", fields[1]),
            format!("[{letters}]"),
            format!("length {length}"),
        ] {
            assert!(line.contains(&word), "{word}: {line}");
        }
        if length > 0 {
            assert!(line.contains(&format!("seq {}:", fields[3])), "{fields:?}: {line}");
        }
    }
}

#[test]
fn a_pipe_into_tshark_is_read_while_it_runs() {
    use std::io::{BufRead, BufReader};
    let lab = lab(LabSpec::default());
    let mut tshark = Command::new("tshark")
        .args(["-i", "-", "-n", "-l", "-T", "fields", "-e", "frame.interface_name", "-e", "udp.payload"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut command = snorkel(["capture", &target(&lab, "client"), "-w", "-", "--", NUMBERED]);
    command.stdout(tshark.stdin.take().unwrap());
    let capture = Capture::into(command);
    send(&lab, "client", 9, 7..8, 4);
    let mut line = String::new();
    BufReader::new(tshark.stdout.take().unwrap()).read_line(&mut line).unwrap();
    // The capture still runs: what was sent came through meanwhile.
    assert_eq!(line, format!("{}/client/eth0\t00000007\n", lab.name));
    // With tshark gone there is nobody to write for: it ends by itself, without a word of complaint.
    // SAFETY: signals a child of this test that has not been reaped. It ends its own helper, which reads the pipe.
    unsafe { libc::kill(tshark.id().cast_signed(), libc::SIGTERM) };
    tshark.wait().unwrap();
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(!ran.stderr.contains("rror") && !ran.stderr.contains("cannot"), "{ran:?}");
}

#[test]
fn a_pipe_that_ends_well_is_a_whole_file() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("piped.pcapng");
    let mut command = snorkel(["capture", &target(&lab, "client"), "-w", "-", "-c", "3", "--", NUMBERED]);
    command.stdout(fs::File::create(&file).unwrap());
    let capture = Capture::into(command);
    send(&lab, "client", 9, 0..10, 4);
    assert_eq!(capture.finish().status, 0);
    assert_eq!(numbers(&file), [0, 1, 2]);
}

#[test]
fn lines_into_a_closed_pipe_end_quietly() {
    let lab = lab(LabSpec::default());
    let (read, write) = std::io::pipe().unwrap();
    // No packet comes that could not be written.
    let mut command = snorkel(["capture", &target(&lab, "client"), "--", NUMBERED]);
    command.stdout(write);
    let capture = Capture::into(command);
    drop(read);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(!ran.stderr.contains("ipe") && !ran.stderr.contains("rror"), "{ran:?}");
}

#[test]
fn packets_that_nobody_reads_any_more_are_not_missed() {
    let lab = lab(LabSpec::default());
    let (read, write) = std::io::pipe().unwrap();
    let mut command = snorkel(["capture", &target(&lab, "client"), "--fail-on-loss", "--", NUMBERED]);
    command.stdout(write);
    let capture = Capture::into(command);
    // As much as a pipe takes not, and more after that.
    send(&lab, "client", 9, 0..2000, 32);
    drop(read);
    let ran = capture.finish();
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(!ran.stderr.contains("could not be written"), "{ran:?}");
}

#[test]
fn a_capture_that_is_killed_can_be_read_up_to_its_last_whole_block() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("killed.pcapng");
    let capture = Capture::start(&[&target(&lab, "client"), "-w", file.to_str().unwrap(), "--", NUMBERED]);
    // Until a good deal of it is in the file, which is written in large pieces.
    let mut sent = 0;
    while fs::metadata(&file).unwrap().len() < 1 << 20 {
        send(&lab, "client", 9, sent..sent + 200, 1000);
        sent += 200;
    }
    capture.signal(libc::SIGKILL);
    assert_eq!(capture.finish().status, 128 + libc::SIGKILL);
    let bytes = fs::read(&file).unwrap();
    let (all, _) = blocks(&bytes);
    let whole = all.iter().filter(|(kind, _)| *kind == PACKET).count();
    assert!(whole > 900, "only {whole} packets are in it");
    let output = Command::new("tshark")
        .arg("-r")
        .arg(&file)
        .args(["-n", "-T", "fields", "-e", "udp.payload"])
        .output()
        .unwrap();
    let ran = Ran::from(output);
    assert_eq!(ran.stdout.lines().count(), whole, "{}", ran.stderr);
    let read = run(["read", file.to_str().unwrap()]);
    assert_eq!(read.stdout.lines().count(), whole, "{}", read.stderr);
    assert!(
        read.status == 0 || read.stderr.contains("cut short") || read.stderr.contains("ends"),
        "{}",
        read.stderr
    );
}

#[test]
fn no_packet_is_lost_at_the_seam_of_two_files() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seam.pcapng");
    let capture = Capture::start(&[
        &target(&lab, "client"),
        "-w",
        file.to_str().unwrap(),
        "--rotate",
        "100kB",
        "--fail-on-loss",
        "--",
        NUMBERED,
    ]);
    send(&lab, "client", 9, 0..5000, 200);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    let files = captures(dir.path());
    assert!(files.len() > 10, "{files:?}");
    let mut all = Vec::new();
    for file in &files {
        let length = fs::metadata(file).unwrap().len();
        assert!(length <= 100_000, "{} is {length} bytes long", file.display());
        assert!(capinfos(file).contains(&format!("Name = {}/client/eth0", lab.name)));
        assert!(statistics(file).len() == 1, "{} has no statistics", file.display());
        let some = numbers(file);
        assert!(!some.is_empty(), "{} is empty", file.display());
        all.extend(some);
    }
    assert!(all.iter().copied().eq(0..5000), "{} packets are in {} files", all.len(), files.len());
}

#[test]
fn a_new_file_begins_with_time_and_no_file_is_empty() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("time.pcapng");
    let client = target(&lab, "client");
    let words = ["capture", &client, "-w", file.to_str().unwrap(), "--rotate", "300ms"];
    let ran = run([&words[..], &["--for", "1s", "--", NUMBERED]].concat());
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(captures(dir.path()).is_empty(), "there was no packet, and so is no file");
    let capture = Capture::start(&[&words[1..], &["--", NUMBERED]].concat());
    // Until there are three, by the packets' own clock.
    let mut sent = 0;
    while captures(dir.path()).len() < 3 {
        send(&lab, "client", 9, sent..sent + 1, 32);
        sent += 1;
    }
    assert_eq!(capture.stop().status, 0);
    let mut all = Vec::new();
    for file in captures(dir.path()) {
        let times = tshark(&file, &["-T", "fields", "-e", "frame.time_epoch"]);
        let times: Vec<f64> = times.lines().map(|time| time.parse().unwrap()).collect();
        assert!(times.last().unwrap() - times[0] < 0.3, "{times:?}");
        all.extend(numbers(&file));
    }
    assert!(all.into_iter().eq(0..sent));
}

#[test]
fn the_oldest_files_go_and_compressed_ones_are_captures_too() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kept.pcapng");
    let words = ["--rotate", "50kB", "--keep", "3", "--compress", "--", NUMBERED];
    let client = target(&lab, "client");
    let capture = Capture::start(&[&[client.as_str(), "-w", file.to_str().unwrap()], &words[..]].concat());
    // The numbers alone differ, but each packet takes a time stamp: several files' worth, also compressed.
    send(&lab, "client", 9, 0..60_000, 4);
    let ran = capture.stop();
    assert_eq!(ran.status, 0, "{ran:?}");
    let files = captures(dir.path());
    assert_eq!(files.len(), 3, "{files:?}");
    let mut last = Vec::new();
    for (at, file) in files.iter().enumerate() {
        assert!(file.to_str().unwrap().ends_with(".pcapng.zst"), "{files:?}");
        // It is the file that has this size, not what was compressed.
        let length = fs::metadata(file).unwrap().len();
        assert!(length <= 50_000 && (at == 2 || length > 40_000), "{} has {length} bytes", file.display());
        let plain = file.with_extension("");
        assert!(Command::new("zstd").arg("-dq").arg(file).status().unwrap().success());
        last.extend(numbers(&plain));
        // What snorkel reads of the packed file is the same.
        let read = run(["read", file.to_str().unwrap(), "--json"]);
        assert_eq!((read.status, read.stdout.lines().count()), (0, numbers(&plain).len()), "{}", read.stderr);
    }
    assert_eq!(*last.last().unwrap(), 59_999);
    assert!(last.windows(2).all(|two| two[1] == two[0] + 1), "there is a hole");
}

#[test]
fn a_full_disk_ends_the_capture_and_keeps_what_was_written() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    // In a mount namespace of its own: the host's table is not touched.
    let script = "mount -t tmpfs -o size=1m small \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    let file = dir.path().join("full.pcapng");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .arg(dir.path())
        .arg(crate::common::SNORKEL)
        .args(["capture", &target(&lab, "client"), &target(&lab, "web"), "--fail-on-loss", "-w"])
        .arg(&file)
        .args(["--", NUMBERED]);
    let capture = Capture::run(command);
    // The disk is that of the capture's own mount namespace, which lives as long as somebody looks at it.
    let disk = fs::File::open(format!("/proc/{}/root{}", capture.pid(), dir.path().display())).unwrap();
    send(&lab, "web", 9, 0..300, 1000);
    send(&lab, "client", 9, 300..3000, 1000);
    let ran = capture.finish();
    assert!(ran.status != 0, "{ran:?}");
    assert!(ran.stderr.contains("no room is left for") && ran.stderr.contains("full.pcapng"), "{ran:?}");
    assert!(ran.stderr.contains("could not be written") && !ran.stderr.contains("panic"), "{ran:?}");
    use std::os::fd::AsRawFd;
    let kept = PathBuf::from(format!("/proc/self/fd/{}/full.pcapng", disk.as_raw_fd()));
    let copy = dir.path().join("copy.pcapng");
    fs::copy(&kept, &copy).unwrap();
    let all = numbers(&copy);
    assert!(
        all.len() > 500 && all.iter().copied().eq(0..all.len() as u32),
        "{} packets were kept",
        all.len()
    );
    // What was taken is either in the file or told to be lost.
    let number = |before: &str| {
        let words: Vec<&str> = ran.stderr.split_whitespace().collect();
        let sentence: Vec<&str> = before.split(' ').collect();
        let at = words
            .windows(sentence.len())
            .position(|some| some == sentence)
            .unwrap_or_else(|| panic!("{ran:?}"));
        words[at - 1].replace(',', "").parse::<u64>().unwrap()
    };
    assert_eq!(number("packets written,"), all.len() as u64, "{ran:?}");
    // Of each link: what was captured of it, less what is in the file, is what the disk did to it.
    let row = |node: &str| {
        let link = format!("{}/{node}/eth0", lab.name);
        let line = ran.stderr.lines().find(|line| line.starts_with(&link)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let unwritten = words.windows(4).find(|some| some[1..] == ["could", "not", "be"]);
        let unwritten = unwritten.map_or(0, |some| some[0].replace(',', "").parse().unwrap());
        (crate::kit::row(&ran, &link)[2], unwritten)
    };
    let (web, web_unwritten) = row("web");
    let (client, client_unwritten) = row("client");
    assert_eq!((web, web_unwritten), (300, 0), "{ran:?}");
    assert_eq!(client - client_unwritten + web, all.len() as u64, "{ran:?}");
    let total = ran.stderr.lines().find(|line| line.contains("packets written, ")).unwrap();
    let total = total.split("; ").nth(1).unwrap().replace(',', "");
    assert_eq!(total, format!("{client_unwritten} could not be written"), "{ran:?}");
}

#[test]
fn files_belong_to_the_user_who_called_sudo() {
    let lab = lab(LabSpec::default());
    let dir = tempfile::tempdir().unwrap();
    for (name, words) in [("single.pcapng", &[][..]), ("series.pcapng", &["--rotate", "20kB"])] {
        let inside = dir.path().join(name.split('.').next().unwrap());
        fs::create_dir(&inside).unwrap();
        std::os::unix::fs::chown(&inside, Some(65534), Some(65534)).unwrap();
        let file = inside.join(name);
        let client = target(&lab, "client");
        let words = [&["capture", &client, "-w", file.to_str().unwrap()], words, &["--", NUMBERED]].concat();
        let mut command = snorkel(words);
        command.env("SUDO_UID", "65534").env("SUDO_GID", "65534");
        let capture = Capture::run(command);
        send(&lab, "client", 9, 0..200, 500);
        let ran = capture.stop();
        assert_eq!(ran.status, 0, "{ran:?}");
        let files = captures(&inside);
        assert_eq!(files.len() > 1, name == "series.pcapng", "{files:?}");
        for file in &files {
            let about = fs::metadata(file).unwrap();
            assert_eq!((about.uid(), about.gid()), (65534, 65534), "{}", file.display());
        }
        assert_eq!(files.iter().map(|file| numbers(file).len()).sum::<usize>(), 200);
    }
}

#[test]
fn a_strangers_link_is_not_followed() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lab(LabSpec::default());
    let client = target(&lab, "client");
    let dir = tempfile::tempdir().unwrap();
    let shared = dir.path().join("tmp");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
    let precious = dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let trap = shared.join("web.pcapng");
    symlink(&precious, &trap).unwrap();
    std::os::unix::fs::lchown(&trap, Some(65534), Some(65534)).unwrap();
    let ran = run(["capture", &client, "-w", trap.to_str().unwrap(), "--for", "1ms"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stderr.contains("another user's link"), "{ran:?}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    // A file that the stranger put there is not written to either.
    fs::remove_file(&trap).unwrap();
    fs::write(&trap, "bait").unwrap();
    std::os::unix::fs::chown(&trap, Some(65534), Some(65534)).unwrap();
    let ran = run(["capture", &client, "-w", trap.to_str().unwrap(), "--for", "1ms"]);
    assert!(ran.status == 1 && ran.stderr.contains("another user's file"), "{ran:?}");
    assert_eq!(fs::read_to_string(&trap).unwrap(), "bait");
    // One's own are one's own.
    fs::remove_file(&trap).unwrap();
    fs::write(&trap, "old").unwrap();
    let ran = run(["capture", &client, "-w", trap.to_str().unwrap(), "--for", "1ms"]);
    assert_eq!(ran.status, 0, "{ran:?}");
    capinfos(&trap);
}
