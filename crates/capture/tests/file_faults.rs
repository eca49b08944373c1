//! Full disks, killed writers: what was written stays readable.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failing test says where")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use snorkel_capture::file::{Lost, Output, OutputOptions, ReadError, Reader, Rotate, Statistics, WriteError};
use snorkel_capture::{Interface, LinkType, Packet, Timestamp};

fn interface() -> Interface {
    Interface {
        name: "web/eth0".to_owned(),
        description: String::new(),
        link_type: LinkType::ETHERNET,
        snaplen: 0,
        mac: None,
        filter: None,
    }
}

fn packet(number: u64, data: &[u8]) -> Packet<'_> {
    let original_length = data.len() as u32;
    Packet { time: Timestamp(number), interface: 0, direction: None, original_length, data }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// How many packets there are, numbered without a gap from `from` on, and what is wrong at the end.
fn count(path: &Path, from: u64) -> (u64, Option<ReadError>) {
    let mut reader = match Reader::open(path) {
        Ok(reader) => reader,
        Err(e) => return (0, Some(e)),
    };
    let mut number = 0;
    loop {
        match reader.next() {
            Ok(Some(packet)) => assert_eq!(packet.time.0, from + number),
            Ok(None) => return (number, None),
            Err(e) => return (number, Some(e)),
        }
        number += 1;
    }
}

/// Runs `work` with a directory on a file system with room for so many KiB, which nobody else sees.
fn on_a_small_disk(kibibytes: u32, work: impl FnOnce(&Path) + Send) {
    let directory = tempfile::tempdir().unwrap();
    let work = || {
        // SAFETY: only this thread, which ends with the closure, changes its mounts; no memory is touched.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.expect("this test makes mounts: run it as root");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        let size = std::ffi::CString::new(format!("size={kibibytes}k")).unwrap();
        mount("none", directory.path(), "tmpfs", MountFlags::empty(), Some(size.as_c_str())).unwrap();
        work(directory.path());
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
}

#[test]
fn a_full_disk_ends_the_file_with_its_last_whole_packet() {
    for (length, compress) in
        [(60, false), (1448, false), (9000, false), (60_000, false), (1448, true), (60_000, true)]
    {
        on_a_small_disk(1000, |disk| {
            let path = disk.join("x");
            let mut output =
                Output::prepare(OutputOptions { path: path.clone(), compress, ..Default::default() })
                    .unwrap();
            let path = if compress { disk.join("x.zst") } else { path };
            output.interface(interface()).unwrap();
            output.statistics(0, Statistics { received: Some(7), ..Statistics::default() }).unwrap();
            let pool = noise(1 << 21);
            let mut accepted = 0u64;
            let error = loop {
                // Here and there from it, or what is compressed would take no room.
                let from = accepted as usize * 1_000_003 % (pool.len() - length);
                let data = &pool[from..from + length];
                let some: Vec<Packet<'_>> = (0..5).map(|number| packet(accepted + number, data)).collect();
                accepted += 5;
                if let Err(e) = output.packets(&some) {
                    break e;
                }
                if accepted.is_multiple_of(10)
                    && let Err(e) = output.flush()
                {
                    break e;
                }
                assert!(accepted < 1 << 20, "the disk is never full");
            };
            let WriteError::Full { lost, .. } = &error else { panic!("{error}") };
            assert_eq!(output.written().packets + lost.total(), accepted, "{length}, {compress}");
            let _ = output.finish();
            let (found, fault) = count(&path, 0);
            assert!(fault.is_none(), "{length}, {compress}: {}", fault.unwrap());
            assert_eq!(found, output.written().packets);
            assert!(
                found * length as u64 > 500 << 10 || compress && found > 0,
                "{length}, {compress}: {found}"
            );
            assert_eq!(std::fs::metadata(&path).unwrap().len(), output.written().bytes);
            let read =
                Command::new("capinfos").args(["-c", "-M"]).arg(&path).output().expect("capinfos is needed");
            let said = String::from_utf8_lossy(&read.stdout);
            assert!(read.status.success() && said.contains(&format!("{found}")), "{said}");
        });
    }
}

#[test]
fn a_full_disk_ends_a_series_with_no_empty_file() {
    // With files of one packet, which are five pages each, no page is left for the last file's header, or three are.
    for (kibibytes, size) in [(500, 64 << 10), (500, 1), (512, 1)] {
        on_a_small_disk(kibibytes, |disk| {
            let rotate = Some(Rotate::Size(size));
            let options = OutputOptions { path: disk.join("x.pcapng"), rotate, ..Default::default() };
            let mut output = Output::prepare(options).unwrap();
            output.interface(interface()).unwrap();
            let data = noise(20_000);
            let (mut accepted, mut lost) = (0, 0);
            let error = loop {
                accepted += 1;
                if let Err(e) = output.packet(&packet(accepted - 1, &data)) {
                    break e;
                }
            };
            lost += error.lost().map_or(0, Lost::total);
            let _ = output.finish();
            let mut names: Vec<PathBuf> =
                std::fs::read_dir(disk).unwrap().map(|e| e.unwrap().path()).collect();
            names.sort();
            let mut found = 0;
            for name in &names {
                let (count, fault) = count(name, found);
                assert!(fault.is_none() && count > 0, "{}", name.display());
                found += count;
            }
            assert_eq!((found, names.len() as u64), (output.written().packets, output.files()));
            assert_eq!(found + lost, accepted, "{error}");
        });
    }
}

#[test]
fn a_series_that_keeps_few_files_never_fills_the_disk() {
    on_a_small_disk(500, |disk| {
        let rotate = Some(Rotate::Size(200 << 10));
        let options = OutputOptions { path: disk.join("x"), rotate, keep: Some(2), ..Default::default() };
        let mut output = Output::prepare(options).unwrap();
        output.interface(interface()).unwrap();
        let data = noise(20_000);
        for number in 0..500 {
            output.packet(&packet(number, &data)).unwrap();
        }
        output.finish().unwrap();
        assert_eq!(std::fs::read_dir(disk).unwrap().count(), 2);
        assert_eq!((output.written().packets, output.notes().len()), (500, 0));
    });
}

/// What the child of the next test does: writes, flushes now and then, says so once, and never ends by itself.
fn write_until_killed(path: &str) {
    let options = OutputOptions { path: path.into(), compress: path.ends_with(".zst"), ..Default::default() };
    let mut output = Output::prepare(options).unwrap();
    output.interface(interface()).unwrap();
    let data = noise(60_000);
    for number in 0u64.. {
        let length = [60, 1448, 60_000, 3, 9000][number as usize % 5];
        output.packet(&packet(number, &data[..length])).unwrap();
        if number % 100 == 99 {
            output.flush().unwrap();
        }
        if number == 999 {
            println!("\n1000 packets");
            std::io::stdout().flush().unwrap();
        }
        assert!(number < 100_000, "nobody kills this");
    }
}

#[test]
fn a_killed_writer_leaves_all_that_was_flushed() {
    if let Ok(path) = std::env::var("SNORKEL_TEST_WRITE") {
        return write_until_killed(&path);
    }
    let directory = tempfile::tempdir().unwrap();
    for name in ["plain.pcapng", "packed.pcapng.zst"] {
        for attempt in 0..5 {
            let path = directory.path().join(format!("{attempt}-{name}"));
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_killed_writer_leaves_all_that_was_flushed", "--nocapture"])
                .env("SNORKEL_TEST_WRITE", &path)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap() == "1000 packets"));
            child.kill().unwrap();
            child.wait().unwrap();
            let (found, fault) = count(&path, 0);
            assert!(found >= 1000, "{found}");
            if let Some(fault) = fault {
                assert!(fault.is_truncation(), "{fault}");
            }
            if name.ends_with("zst") {
                continue;
            }
            let read =
                Command::new("tcpdump").args(["-n", "-r"]).arg(&path).output().expect("tcpdump is needed");
            assert_eq!(
                String::from_utf8_lossy(&read.stdout).lines().filter(|l| !l.starts_with('\t')).count() as u64,
                found
            );
        }
    }
}

/// What the child of the next test does: writes to its standard output until nobody reads that, or to the end.
fn write_to_standard_output(packets: u64) -> ! {
    let mut output = Output::prepare(OutputOptions { path: "-".into(), ..Default::default() }).unwrap();
    output.interface(interface()).unwrap();
    let data = noise(20_000);
    for number in 0..packets {
        let length = [60, 1448, 20_000][number as usize % 3];
        match output.packet(&packet(number, &data[..length])) {
            Ok(()) => {}
            Err(WriteError::Closed { name }) if name == "standard output" => std::process::exit(42),
            Err(e) => panic!("{e}"),
        }
    }
    output.finish().unwrap();
    std::process::exit(0)
}

#[test]
fn standard_output_is_a_capture_until_nobody_reads_it() {
    if let Ok(packets) = std::env::var("SNORKEL_TEST_PACKETS") {
        write_to_standard_output(packets.parse().unwrap());
    }
    let child = |packets: &str| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "standard_output_is_a_capture_until_nobody_reads_it", "--nocapture"])
            .env("SNORKEL_TEST_PACKETS", packets)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let output = child("500").wait_with_output().unwrap();
    assert!(output.status.success());
    // The test's frame says something before.
    let start = output.stdout.windows(4).position(|bytes| bytes == [0x0a, 0x0d, 0x0d, 0x0a]).unwrap();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&output.stdout[start..]).unwrap();
    let (found, fault) = count(file.path(), 0);
    assert_eq!(found, 500);
    assert!(fault.is_none());

    let mut unread = child("1000000");
    // Closed only when the capture has begun, or it would be the test's frame that finds it closed.
    let mut reading = unread.stdout.take().unwrap();
    let mut last = [0; 4];
    while last != [0x0a, 0x0d, 0x0d, 0x0a] {
        last.rotate_left(1);
        reading.read_exact(&mut last[3..]).unwrap();
    }
    drop(reading);
    assert_eq!(unread.wait().unwrap().code(), Some(42));
}
