//! What filters cost: compiling one, and asking one about a packet.
//!
//! `cargo bench -p snorkel-capture --bench filter`
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a measurement that fails shows why")]

use std::hint::black_box;
use std::time::Instant;

use snorkel_capture::filter::{Filter, Mode, Options, SystemNames};
use snorkel_capture::{Direction, LinkType, Packet, Timestamp};

const PACKETS: usize = 1024;
const ROUNDS: usize = 2001;

fn main() {
    let names = SystemNames::default();
    let options = Options {
        link_type: LinkType::ETHERNET,
        snaplen: 0,
        mode: Mode::File,
        names: &names,
        netmask: None,
        swapped: false,
    };
    let frames = frames();
    println!("nanoseconds a packet, median of {ROUNDS} rounds over {PACKETS} packets of several kinds");
    for text in [
        "ip",
        "tcp port 80",
        "host 10.0.0.1",
        "port 80 or port 443 or port 53",
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
        "ip6 protochain 6",
    ] {
        let start = Instant::now();
        let filter = Filter::compile(text, &options).unwrap();
        let compiled = start.elapsed();
        let mut times: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let start = Instant::now();
                let mut matches = 0;
                for data in &frames {
                    let packet = Packet {
                        time: Timestamp(0),
                        interface: 0,
                        direction: Some(Direction::Inbound),
                        original_length: data.len() as u32,
                        data,
                    };
                    matches += usize::from(filter.matches(black_box(&packet)));
                }
                black_box(matches);
                start.elapsed().as_secs_f64() * 1e9 / PACKETS as f64
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{:>9.1}  {text}  ({} instructions, compiled in {compiled:.0?})",
            times[ROUNDS / 2],
            filter.instructions().len()
        );
    }
}

/// TCP and UDP over both versions of IP, and ARP, mixed.
fn frames() -> Vec<Vec<u8>> {
    (0..PACKETS)
        .map(|number| {
            let mut frame = vec![0u8; 66 + number * 37 % 1400];
            let random = number.wrapping_mul(2_654_435_761) >> 7;
            let port = [80u16, 443, 53, 22, 40000][random % 5].to_be_bytes();
            let transport = [6, 6, 6, 17][random / 5 % 4];
            match random / 20 % 8 {
                0 => frame[12..14].copy_from_slice(&[0x08, 0x06]),
                1 | 2 => {
                    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
                    frame[14] = 0x60;
                    frame[20] = transport;
                    frame[56..58].copy_from_slice(&port);
                }
                _ => {
                    frame[12..14].copy_from_slice(&[0x08, 0x00]);
                    frame[14] = 0x45;
                    frame[17] = 60;
                    frame[23] = transport;
                    frame[26..30].copy_from_slice(&[10, 0, 0, (random % 4) as u8]);
                    frame[36..38].copy_from_slice(&port);
                    frame[47] = (random % 32) as u8;
                }
            }
            frame
        })
        .collect()
}
