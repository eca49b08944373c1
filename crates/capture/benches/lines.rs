//! What a line costs: a file of ordinary packets written as lines, and by tcpdump, side by side in one run.
//!
//!     cargo bench -p snorkel-capture --bench lines [-- FILE]
//!
//! FILE is a pcap file of Ethernet in this machine's byte order; without it one is made.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what fails here has no other way to be told")]

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use snorkel_capture::dissect::{Base, Printer, Sequences, Style, Summary};
use snorkel_capture::flows::Flows;
use snorkel_capture::names::{Names, Scope};
use snorkel_capture::{Interface, LinkType, Packet, Timestamp};

const ROUNDS: usize = 5;

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let folder = tempfile::tempdir().unwrap();
    let interface = Interface {
        name: "web/eth0".to_owned(),
        description: String::new(),
        link_type: LinkType::ETHERNET,
        snaplen: 0,
        mac: None,
        filter: None,
    };
    let cases = match given {
        Some(file) => vec![("the file", std::fs::read(file).unwrap())],
        None => vec![
            ("TCP data", file(&|n| tcp(n, 0x18, 1448, &[1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7]))),
            ("TCP acknowledgements", file(&|n| tcp(n, 0x10, 0, &[1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7]))),
            ("DNS answers", file(&dns)),
        ],
    };
    let columns = ["lines", "relative", "names", "json", "flows", "tcpdump"];
    println!(
        "{:22}{}   ns of processor time per packet",
        "",
        columns.map(|column| format!(" {column:>9}")).concat()
    );
    for (what, bytes) in cases {
        let path = folder.path().join("packets.pcap");
        std::fs::write(&path, &bytes).unwrap();
        let packets = read(&bytes);
        let count = packets.len() as u32;
        let plain = best(|| {
            let mut printer = Printer::new(Style::default(), Arc::new(Names::new()));
            printer.interface(&interface);
            write(&packets, &mut printer, |_| Base::default());
        });
        let relative = best(|| {
            let mut printer = Printer::new(Style::default(), Arc::new(Names::new()));
            printer.interface(&interface);
            let mut sequences = Sequences::new(1 << 16);
            write(&packets, &mut printer, |packet| sequences.base(LinkType::ETHERNET, packet));
        });
        let named = best(|| {
            let mut names = Names::new();
            for n in 1..=50 {
                names.add(Scope::FILE, [10, 9, 0, n].into(), &format!("container-{n}"));
            }
            let mut printer = Printer::new(Style::default(), Arc::new(names));
            printer.interface(&interface);
            write(&packets, &mut printer, |_| Base::default());
        });
        let json = best(|| {
            let names = Names::new();
            let mut out = Vec::new();
            for packet in &packets {
                out.clear();
                serde_json::to_writer(&mut out, &Summary::new(packet, &interface, &names)).unwrap();
                std::hint::black_box(&out);
            }
        });
        let counted = best(|| {
            let mut flows = Flows::new(100_000);
            for packet in &packets {
                flows.add(LinkType::ETHERNET, packet);
            }
            std::hint::black_box(&flows);
        });
        let tcpdump = best(|| {
            let mut tcpdump = Command::new("tcpdump");
            tcpdump.arg("-nnr").arg(&path).stdout(Stdio::null()).stderr(Stdio::null());
            assert!(tcpdump.status().unwrap().success());
        });
        print!("{what:22}");
        for time in [plain, relative, named, json, counted, tcpdump] {
            print!(" {:>9}", (time / count).as_nanos());
        }
        println!();
    }
}

/// The least processor time that a run takes, its children's with it: what else the machine does hardly counts.
fn best(mut run: impl FnMut()) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let start = processor_time(libc::RUSAGE_SELF) + processor_time(libc::RUSAGE_CHILDREN);
        run();
        let end = processor_time(libc::RUSAGE_SELF) + processor_time(libc::RUSAGE_CHILDREN);
        least = least.min(end - start);
    }
    least
}

fn processor_time(of: libc::c_int) -> Duration {
    // SAFETY: all fields of the structure are numbers, for which noughts are values.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live structure of the type that getrusage(2) fills.
    assert_eq!(unsafe { libc::getrusage(of, &mut usage) }, 0);
    let time = |part: libc::timeval| {
        Duration::from_secs(part.tv_sec as u64) + Duration::from_micros(part.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn write(packets: &[Packet<'_>], printer: &mut Printer, mut base: impl FnMut(&Packet<'_>) -> Base) {
    let mut out = Vec::with_capacity(1 << 17);
    for packet in packets {
        if out.len() > 1 << 16 {
            std::hint::black_box(&out);
            out.clear();
        }
        let base = base(packet);
        printer.line(packet, base, &mut out);
    }
    std::hint::black_box(&out);
}

fn file(packet: &dyn Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1] {
        bytes.extend(word.to_ne_bytes());
    }
    for n in 0..200_000 {
        let data = packet(n);
        for word in [1_700_000_000 + n / 50_000, n % 50_000 * 20, data.len() as u32, data.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(data);
    }
    bytes
}

fn read(bytes: &[u8]) -> Vec<Packet<'_>> {
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut packets = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let length = word(at + 8) as usize;
        packets.push(Packet {
            time: Timestamp(u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)) * 1000),
            interface: 0,
            direction: None,
            original_length: word(at + 12),
            data: &bytes[at + 16..at + 16 + length],
        });
        at += 16 + length;
    }
    packets
}

fn ip(protocol: u8, n: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0];
    packet.extend((payload.len() as u16 + 20).to_be_bytes());
    packet.extend([(n >> 8) as u8, n as u8, 0x40, 0, 64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    packet.extend(payload);
    packet
}

fn tcp(n: u32, flags: u8, length: usize, options: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend((40_000 + (n % 100) as u16).to_be_bytes());
    segment.extend(8080u16.to_be_bytes());
    segment.extend((3_000_000_000u32.wrapping_add(n * 1448)).to_be_bytes());
    segment.extend(1_234_567_890u32.to_be_bytes());
    segment.extend([0x50 + (options.len() as u8 / 4 * 16), flags, 1, 0xf6, 0, 0, 0, 0]);
    segment.extend(options);
    segment.resize(segment.len() + length, b'a');
    ip(6, n, &segment)
}

fn dns(n: u32) -> Vec<u8> {
    let mut message = vec![(n >> 8) as u8, n as u8, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    message.extend(b"\x03api\x07example\x03com\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\x0a\x09\x00\x02");
    let mut datagram = vec![0, 53, 0xa0, 0x01, 0, message.len() as u8 + 8, 0, 0];
    datagram.extend(message);
    ip(17, n, &datagram)
}
