//! Reading: the lines of a large capture, beside tcpdump's and tshark's.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::{Folder, ROUNDS, median, reap, snorkel};

/// Lines from a capture of a gigabyte.
pub(crate) fn lines(folder: &Folder) {
    let file = folder.file("read.pcap");
    let packets = ordinary(&file, 1_000_000_000);
    let file = file.to_str().unwrap();
    println!(
        "\nlines of a capture of 1 GB with {packets} packets, to /dev/null (median of {ROUNDS}; tshark once)"
    );
    #[expect(clippy::zombie_processes, reason = "it is reaped, by its number, for the sake of its account")]
    let timed = |words: &[&str]| {
        let begun = Instant::now();
        let child = Command::new(words[0])
            .args(&words[1..])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {words:?}: {e}"));
        let (cpu, memory) = reap(&child);
        (begun.elapsed().as_secs_f64(), cpu.as_secs_f64(), memory)
    };
    let ours: [&str; 3] = [&snorkel(), "read", file];
    let mut times = vec![Vec::new(); 2];
    let mut memory = 0;
    for _ in 0..ROUNDS {
        for (words, times) in [&ours[..], &["tcpdump", "-nr", file]].iter().zip(&mut times) {
            let (took, _, most) = timed(words);
            times.push(took);
            if words[0] == ours[0] {
                memory = memory.max(most);
            }
        }
    }
    let (snorkel, tcpdump) = (median(times[0].clone()), median(times[1].clone()));
    let (tshark, _, _) = timed(&["tshark", "-nr", file]);
    println!("  {:<22} {snorkel:>8.2} s   {:.1} MB of memory at most", "snorkel read", memory as f64 / 1e6);
    println!(
        "  {:<22} {tcpdump:>8.2} s   snorkel is {:.1} x faster  (wanted: at least 3)",
        "tcpdump -nr",
        tcpdump / snorkel
    );
    println!(
        "  {:<22} {tshark:>8.2} s   snorkel is {:.1} x faster  (wanted: at least 20)",
        "tshark -nr",
        tshark / snorkel
    );
}

/// Writes a pcap file of ordinary traffic: of five packets two carry TCP data, two acknowledge it, one answers for DNS.
fn ordinary(path: &Path, bytes: usize) -> u64 {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).unwrap());
    file.write_all(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0])
        .unwrap();
    let (mut written, mut count) = (0, 0u32);
    while written < bytes {
        let frame = match count % 5 {
            0 | 2 => packet(count, 6, &tcp(count, 0x18, 1448)),
            1 | 3 => packet(count, 6, &tcp(count, 0x10, 0)),
            _ => packet(count, 17, &dns(count)),
        };
        let time = [1_700_000_000 + count / 500_000, count % 500_000 * 2];
        let length = frame.len() as u32;
        for number in [time[0], time[1], length, length] {
            file.write_all(&number.to_le_bytes()).unwrap();
        }
        file.write_all(&frame).unwrap();
        written += 16 + frame.len();
        count += 1;
    }
    file.flush().unwrap();
    count.into()
}

fn packet(number: u32, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    frame.extend(((20 + payload.len()) as u16).to_be_bytes());
    frame.extend((number as u16).to_be_bytes());
    frame.extend([0x40, 0, 64, protocol, 0, 0, 10, 9, 0, (number / 5 % 50) as u8, 10, 9, 1, 1]);
    frame.extend(payload);
    frame
}

fn tcp(number: u32, flags: u8, length: usize) -> Vec<u8> {
    let port = 40_000 + (number / 5 % 1000) as u16;
    let ports = if flags == 0x10 { [80, port] } else { [port, 80] };
    let mut segment: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    segment.extend((number * 1448).to_be_bytes());
    segment.extend([0, 0, 0, 1, 0x80, flags, 1, 0xf5, 0, 0, 0, 0, 1, 1, 8, 10]);
    segment.extend(number.to_be_bytes());
    segment.extend([0, 1, 2, 3]);
    segment.resize(segment.len() + length, b'x');
    segment
}

fn dns(number: u32) -> Vec<u8> {
    let mut answer = vec![0, 53, 0xa0, 1];
    let message: &[u8] = b"\x81\x80\0\x01\0\x01\0\0\0\0\x04shop\x07example\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x0a\x09\x01\x01";
    answer.extend(((8 + 2 + message.len()) as u16).to_be_bytes());
    answer.extend([0, 0]);
    answer.extend((number as u16).to_be_bytes());
    answer.extend(message);
    answer
}
