//! What others wrote is read as they read it, and what is written here they read without a complaint.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failing test says where")]

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use snorkel_capture::file::{Output, OutputOptions, Reader, Section, Statistics};
use snorkel_capture::{Direction, Interface, LinkType, Packet, Timestamp};

/// Runs a program, and gives what it printed on standard output. It must succeed, and have nothing to complain of.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program).args(arguments).env("PATH", path).env("TZ", "UTC").output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    // What these say of who runs them, and what, is no complaint.
    let usual =
        ["Running as user", "reading from file", "This could be dangerous", "names might be incorrect"];
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| !line.is_empty() && !usual.iter().any(|part| line.contains(part)))
        .collect();
    assert!(output.status.success() && complaints.is_empty(), "{program} {arguments:?}: {said}");
    output.stdout
}

#[track_caller]
fn text(program: &str, arguments: &[&str]) -> String {
    String::from_utf8(run(program, arguments)).unwrap()
}

/// A packet's time in nanoseconds, its length on the link, and its bytes.
type Seen = (u64, u32, Vec<u8>);

fn read(path: &Path) -> Vec<Seen> {
    let mut reader = Reader::open(path).unwrap();
    let mut found = Vec::new();
    while let Some(packet) = reader.next().unwrap() {
        found.push((packet.time.0, packet.original_length, packet.data.to_vec()));
    }
    found
}

/// The packets as libpcap reads them.
fn read_by_tcpdump(path: &Path) -> Vec<Seen> {
    let rewritten = tempfile::NamedTempFile::new().unwrap();
    let bytes = run("tcpdump", &["--time-stamp-precision=nano", "-r", path.to_str().unwrap(), "-w", "-"]);
    rewritten.as_file().write_all(&bytes).unwrap();
    read(rewritten.path())
}

/// Time, captured and original length, interface's name, and direction of each packet as Wireshark reads them.
fn fields_by_tshark(path: &Path) -> Vec<String> {
    let mut arguments = vec!["-n", "-r", path.to_str().unwrap(), "-T", "fields"];
    for field in [
        "frame.time_epoch",
        "frame.cap_len",
        "frame.len",
        "frame.interface_name",
        "frame.packet_flags_direction",
    ] {
        arguments.extend(["-e", field]);
    }
    text("tshark", &arguments).lines().map(str::to_owned).collect()
}

/// The same of our own reading.
fn fields(path: &Path) -> Vec<String> {
    let mut reader = Reader::open(path).unwrap();
    let mut found = Vec::new();
    loop {
        let Some(packet) = reader.next().unwrap() else { return found };
        let (time, captured, original) = (packet.time, packet.data.len(), packet.original_length);
        let direction = match packet.direction {
            None => "",
            Some(Direction::Inbound) => "0x00000001",
            Some(Direction::Outbound) => "0x00000002",
        };
        let interface = packet.interface;
        let name = &reader.about().interfaces[interface].name;
        let time = format!("{}.{:09}", time.seconds(), time.nanoseconds());
        found.push(format!("{time}\t{captured}\t{original}\t{name}\t{direction}"));
    }
}

/// An Ethernet frame with a UDP packet from 10.0.0.1 to 10.0.0.2.
fn frame(length: usize) -> Vec<u8> {
    let udp = 8 + length;
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    frame.extend(((20 + udp) as u16).to_be_bytes());
    frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0x30, 0x3a]);
    frame.extend((udp as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..length).map(|at| at as u8));
    frame
}

fn interface(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        description: format!("docker, id 4711, the link of {name}"),
        link_type: LinkType::ETHERNET,
        snaplen: 262_144,
        mac: Some([2, 0, 0, 0, 0, 1]),
        filter: Some("udp or tcp".to_owned()),
    }
}

/// A file of ours, with something of everything.
fn ours(path: &Path, compress: bool) {
    let section = Section {
        hardware: Some("a test's machine".into()),
        os: Some("Linux 6.1".into()),
        application: Some("snorkel 0.1.0".into()),
        comments: vec!["what happened at night".into()],
    };
    let options = OutputOptions { path: path.to_owned(), compress, section, ..OutputOptions::default() };
    let mut output = Output::prepare(options).unwrap();
    let names = [("10.0.0.1", "web"), ("10.0.0.2", "db"), ("fd00::7", "six")];
    output.names(names.map(|(address, name)| (address.parse().unwrap(), name.to_owned()))).unwrap();
    output.interface(interface("web/eth0")).unwrap();
    let directions = [None, Some(Direction::Inbound), Some(Direction::Outbound)];
    for number in 0..300u64 {
        if number == 100 {
            output.interface(interface("db/eth0")).unwrap();
        }
        let data = frame(number as usize * 80);
        output
            .packet(&Packet {
                time: Timestamp(1_700_000_000_123_456_789 + number * 1_000_000_007),
                interface: usize::from(number >= 100 && number % 2 == 0),
                direction: directions[number as usize % 3],
                original_length: data.len() as u32 + if number == 7 { 1000 } else { 0 },
                data: &data,
            })
            .unwrap();
        if number % 50 == 0 {
            output.flush().unwrap();
        }
    }
    for interface in 0..2 {
        let statistics = Statistics {
            time: Timestamp(1_700_000_400_000_000_000),
            start: Some(Timestamp(1_700_000_000_000_000_000)),
            end: Some(Timestamp(1_700_000_400_000_000_000)),
            received: Some(310),
            dropped: Some(10),
            filter_accepted: Some(305),
            os_dropped: Some(5),
            ..Statistics::default()
        };
        output.statistics(interface, statistics).unwrap();
    }
    output.finish().unwrap();
    assert_eq!(output.notes(), [""; 0]);
}

#[test]
fn wireshark_and_tcpdump_read_our_files_without_a_complaint() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["plain.pcapng", "packed.pcapng.zst"] {
        let path = directory.path().join(name);
        let packed = name.ends_with("zst");
        ours(&path, packed);
        let shown = path.to_str().unwrap();
        assert_eq!(fields(&path).len(), 300);
        assert_eq!(fields(&path), fields_by_tshark(&path));

        let about = text("capinfos", &["-M", shown]);
        for words in [
            "what happened at night",
            "a test's machine",
            "Linux 6.1",
            "snorkel 0.1.0",
            "Number of packets:   300",
            "nanoseconds (9)",
            "Number of interfaces in file: 2",
            "Name = web/eth0",
            "Name = db/eth0",
            "Description = docker, id 4711, the link of db/eth0",
            "Filter string = udp or tcp",
            "Operating system = Linux 6.1",
            "Number of stat entries = 1",
        ] {
            assert!(about.contains(words), "{words:?} is missing:\n{about}");
        }
        let hosts = text(
            "tshark",
            &["-N", "n", "-r", shown, "-c", "1", "-T", "fields", "-e", "ip.src_host", "-e", "ip.dst_host"],
        );
        assert_eq!(hosts.trim(), "web\tdb");
        if !packed {
            assert_eq!(read(&path), read_by_tcpdump(&path));
        }
    }
}

#[test]
fn tcpdump_reads_a_file_of_ours_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x.pcapng");
    let mut output =
        Output::prepare(OutputOptions { path: path.clone(), ..OutputOptions::default() }).unwrap();
    output.interface(interface("x")).unwrap();
    let data = frame(100);
    for number in 1..4 {
        let time = Timestamp(number);
        let packet = Packet { time, interface: 0, direction: None, original_length: 142, data: &data };
        output.packet(&packet).unwrap();
        output.flush().unwrap();
        assert_eq!(read_by_tcpdump(&path).len(), number as usize);
    }
}

/// Other tools' files, in a directory: (name, whether libpcap reads it).
fn theirs(directory: &Path) -> Vec<(PathBuf, bool)> {
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let plain = at("ours.pcapng");
    ours(Path::new(&plain), false);
    let one = at("one.pcapng");
    run("editcap", &["-r", "-F", "pcapng", &plain, &one, "1-100"]);
    let mut all = vec![(one.clone(), true)];
    for kind in ["pcap", "nsecpcap", "modpcap"] {
        let name = at(&format!("by-editcap.{kind}"));
        run("editcap", &["-F", kind, &one, &name]);
        all.push((name, true));
    }
    let cut = at("cut.pcapng");
    run("editcap", &["-s", "60", "-a", "3:a comment", &plain, &cut]);
    all.push((cut.clone(), true));
    let merged = at("merged.pcapng");
    run("mergecap", &["-w", &merged, &plain, &cut]);
    all.push((merged, true));
    let micro = at("by-tcpdump.pcap");
    run("tcpdump", &["-r", &plain, "-w", &micro]);
    all.push((micro, true));
    let nano = at("by-tcpdump-nano.pcap");
    run("tcpdump", &["--time-stamp-precision=nano", "-r", &plain, "-w", &nano]);
    all.push((nano, true));
    let shark = at("by-tshark.pcapng");
    run("tshark", &["-r", &plain, "-w", &shark]);
    all.push((shark, true));
    all.into_iter().map(|(name, pcap)| (PathBuf::from(name), pcap)).collect()
}

#[test]
fn others_files_are_read_as_they_read_them() {
    let directory = tempfile::tempdir().unwrap();
    for (path, libpcap) in theirs(directory.path()) {
        let found = read(&path);
        assert!(found.len() >= 100, "{}: {}", path.display(), found.len());
        if libpcap {
            assert!(found == read_by_tcpdump(&path), "{} is not what tcpdump sees", path.display());
        }
        let ours: Vec<String> = fields(&path);
        // Wireshark names an interface that has no name itself, and knows no direction in the modified format.
        let without = |line: &String| line.split('\t').take(3).collect::<Vec<_>>().join("\t");
        let (a, b): (Vec<String>, Vec<String>) =
            (ours.iter().map(without).collect(), fields_by_tshark(&path).iter().map(without).collect());
        assert_eq!(a, b, "{}", path.display());

        // And the same in gzip's and zstd's wrapping, also in a pipe.
        for packer in ["gzip", "zstd"] {
            let packed = directory.path().join("packed");
            let input = File::open(&path).unwrap();
            let status =
                Command::new(packer).arg("-c").stdin(input).stdout(File::create(&packed).unwrap()).status();
            assert!(status.unwrap_or_else(|e| panic!("cannot run {packer}: {e}")).success());
            assert_eq!(read(&packed), found);
            let mut cat = Command::new("cat").arg(&packed).stdout(Stdio::piped()).spawn().unwrap();
            let mut reader = Reader::new(cat.stdout.take().unwrap()).unwrap();
            let mut count = 0;
            while reader.next().unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, found.len());
            cat.wait().unwrap();
        }
    }
}

#[test]
fn what_tcpdump_and_dumpcap_capture_is_read_as_they_read_it() {
    // Each captures a network of its own until it has ten packets; pings go on as long as it wants.
    let script = r#"
        ip link set lo up
        "$@" 2>/dev/null &
        while kill -0 $! 2>/dev/null; do ping -q -c 1 -W 1 127.0.0.1 >/dev/null; done
        wait $!
    "#;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("captured");
    let shown = path.to_str().unwrap();
    for command in [
        &["tcpdump", "-Z", "root", "-i", "lo", "-c", "10", "-w", shown][..],
        &["tcpdump", "-Z", "root", "-i", "any", "-c", "10", "-w", shown],
        &["dumpcap", "-q", "-i", "lo", "-c", "10", "-w", shown],
        &["dumpcap", "-q", "-P", "-i", "lo", "-c", "10", "-w", shown],
        &["dumpcap", "-q", "-i", "lo", "-i", "lo", "-c", "10", "-w", shown],
    ] {
        let _ = std::fs::remove_file(&path);
        run("unshare", &[&["-n", "sh", "-c", script, "sh"], command].concat());
        let found = read(&path);
        assert!(found.len() >= 10, "{command:?}: {}", found.len());
        assert_eq!(found, read_by_tcpdump(&path), "{command:?}");
        if command.contains(&"dumpcap") && !command.contains(&"-P") {
            assert_eq!(fields(&path), fields_by_tshark(&path), "{command:?}");
            let mut reader = Reader::open(&path).unwrap();
            while reader.next().unwrap().is_some() {}
            let about = reader.about();
            assert!(about.section.application.as_deref().unwrap_or("").contains("Dumpcap"));
            assert!(about.statistics.iter().all(|s| s.as_ref().is_some_and(|s| s.received.is_some())));
        }
    }
}
