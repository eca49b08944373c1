//! Reads captures as fast as it can, and says how many packets there were: what `perf stat` is asked about.
//!
//!     cargo run --release -p snorkel-capture --example capture_files -- read|batches FILE...
//!     cargo run --release -p snorkel-capture --example capture_files -- copy|write|compress FROM TO
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a program for measuring: it may fail loudly")]

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use snorkel_capture::file::{Batch, Reader, Section, Writer};

fn main() {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_default();
    if what == "copy" {
        return copy(&words.next().expect("FROM"), &words.next().expect("TO"));
    }
    if what == "write" || what == "compress" {
        let (from, to) = (words.next().expect("FROM"), words.next().expect("TO"));
        return write(&from, &to, what == "compress");
    }
    for name in words {
        let began = Instant::now();
        let mut reader = Reader::open(Path::new(&name)).expect("open");
        let (mut packets, mut bytes, mut check) = (0u64, 0u64, 0u64);
        let mut fault = None;
        if what == "batches" {
            let mut batch = Batch::default();
            loop {
                match reader.next_batch(batch) {
                    Ok(Some(next)) => batch = next,
                    Ok(None) => break,
                    Err(e) => {
                        fault = Some(e);
                        break;
                    }
                }
                for packet in batch.iter() {
                    packets += 1;
                    bytes += packet.data.len() as u64;
                    check ^= packet.time.0;
                }
            }
        } else {
            loop {
                match reader.next() {
                    Ok(Some(packet)) => {
                        packets += 1;
                        bytes += packet.data.len() as u64;
                        check ^= packet.time.0;
                    }
                    Ok(None) => break,
                    Err(e) => {
                        fault = Some(e);
                        break;
                    }
                }
            }
        }
        println!("{name}: {packets} packets, {bytes} bytes, {check:x}, {:?}", began.elapsed());
        if let Some(e) = fault {
            println!("{name}: {e}");
        }
    }
}

/// As `tcpdump -r FROM -w TO` does.
fn copy(from: &str, to: &str) {
    let mut reader = Reader::open(Path::new(from)).expect("open");
    let mut writer = Writer::new(File::create(to).expect("create"), to, &Section::default());
    let mut batch = Batch::default();
    while let Some(next) = reader.next_batch(batch).expect("read") {
        batch = next;
        while writer.interfaces() < batch.about().interfaces.len() {
            let next = writer.interfaces();
            writer.interface(&batch.about().interfaces[next]).expect("write");
        }
        for packet in batch.iter() {
            writer.packet(&packet).expect("write");
        }
    }
    println!("{to}: {:?}", writer.finish().expect("write"));
}

/// Writing alone.
fn write(from: &str, to: &str, compress: bool) {
    let mut reader = Reader::open(Path::new(from)).expect("open");
    let file = File::create(to).expect("create");
    let mut writer = Writer::new(file, to, &Section::default());
    if compress {
        writer = writer.compressed().expect("a compressor");
    }
    // Read first, so that the time is that of writing alone.
    let mut batches = Vec::new();
    while let Some(batch) = reader.next_batch(Batch::default()).expect("read") {
        batches.push(batch);
    }
    let began = Instant::now();
    for batch in &batches {
        while writer.interfaces() < batch.about().interfaces.len() {
            let next = writer.interfaces();
            writer.interface(&batch.about().interfaces[next]).expect("write");
        }
        for packet in batch.iter() {
            writer.packet(&packet).expect("write");
        }
    }
    let written = writer.finish().expect("write");
    let took = began.elapsed();
    let speed = written.bytes as f64 / 1e6 / took.as_secs_f64();
    println!("{to}: {} packets, {} bytes, {took:?}, {speed:.0} MB/s", written.packets, written.bytes);
}
