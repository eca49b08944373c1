//! Captures of all kinds. Those that are damaged have a file of their own.

mod damage;

use std::io::{self, Cursor, Read, Write};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::*;
use crate::file::block::{EPB, IDB, ISB, NRB, PB, SHB, SPB};
use crate::packet::{Direction, LinkType, Timestamp};

/// Numbers of one byte order, one after the other.
#[derive(Clone, Copy)]
struct Wire(bool);

const LITTLE: Wire = Wire(false);
const BIG: Wire = Wire(true);

impl Wire {
    fn u16(self, number: u16) -> Vec<u8> {
        if self.0 { number.to_be_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    }

    fn u32(self, number: u32) -> Vec<u8> {
        if self.0 { number.to_be_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    }

    fn u64(self, number: u64) -> Vec<u8> {
        if self.0 { number.to_be_bytes().to_vec() } else { number.to_le_bytes().to_vec() }
    }

    fn block(self, kind: u32, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut body = parts.concat();
        body.resize(body.len().next_multiple_of(4), 0);
        let length = self.u32(body.len() as u32 + 12);
        [self.u32(kind), length.clone(), body, length].concat()
    }

    fn option(self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut option = [self.u16(code), self.u16(value.len() as u16), value.to_vec()].concat();
        option.resize(option.len().next_multiple_of(4), 0);
        option
    }

    fn section(self) -> Vec<u8> {
        let application = self.option(4, b"a test\0");
        let comment = self.option(1, "höchst geheim".as_bytes());
        let end = self.option(0, b"");
        let fixed = [self.u32(0x1a2b_3c4d), self.u16(1), self.u16(0), self.u64(u64::MAX)];
        self.block(SHB, &[fixed.concat(), application, comment, end])
    }

    fn interface(self, name: &str, options: &[Vec<u8>]) -> Vec<u8> {
        let fixed = [self.u16(1), self.u16(0), self.u32(65535)].concat();
        let name = self.option(2, name.as_bytes());
        self.block(IDB, &[fixed, name, options.concat(), self.option(0, b"")])
    }

    fn packet(self, interface: u32, ticks: u64, data: &[u8], options: &[Vec<u8>]) -> Vec<u8> {
        let time = [self.u32((ticks >> 32) as u32), self.u32(ticks as u32)].concat();
        let mut padded = data.to_vec();
        padded.resize(data.len().next_multiple_of(4), 0);
        let lengths = [self.u32(data.len() as u32), self.u32(data.len() as u32 + 10)].concat();
        self.block(EPB, &[self.u32(interface), time, lengths, padded, options.concat()])
    }
}

/// A packet with its bytes.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    time: u64,
    interface: usize,
    direction: Option<Direction>,
    original: u32,
    data: Vec<u8>,
}

impl From<Packet<'_>> for Owned {
    fn from(packet: Packet<'_>) -> Owned {
        Owned {
            time: packet.time.0,
            interface: packet.interface,
            direction: packet.direction,
            original: packet.original_length,
            data: packet.data.to_vec(),
        }
    }
}

/// A source that gives so many bytes at a time.
struct Drops(Cursor<Vec<u8>>, usize);

impl Read for Drops {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.1);
        self.0.read(&mut buffer[..most])
    }
}

/// A source that never ends.
struct Again(Vec<u8>, usize);

impl Read for Again {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = self.0[self.1 % self.0.len()];
            self.1 += 1;
        }
        Ok(buffer.len())
    }
}

/// All packets, and the error that follows them.
fn packets(from: impl Read + Send + 'static) -> (Vec<Owned>, Option<ReadError>) {
    let mut reader = match Reader::new(from) {
        Ok(reader) => reader,
        Err(e) => return (Vec::new(), Some(e)),
    };
    let mut found = Vec::new();
    let fault = loop {
        match reader.next() {
            Ok(Some(packet)) => found.push(packet.into()),
            Ok(None) => break None,
            Err(e) => break Some(e),
        }
        assert!(found.len() < 1 << 20, "this never ends");
    };
    assert!(matches!(reader.next(), Ok(None)), "after an error, or the end, comes nothing");
    assert!(reader.current.bytes.len() <= 4 * BUFFER, "the buffer grew to {}", reader.current.bytes.len());
    (found, fault)
}

fn whole(bytes: Vec<u8>) -> Vec<Owned> {
    let (found, fault) = packets(Cursor::new(bytes));
    assert!(fault.is_none(), "{}", fault.unwrap());
    found
}

/// A file with something of everything, and where each packet's block ends.
fn everything(wire: Wire) -> (Vec<u8>, Vec<usize>) {
    let mut file = wire.section();
    let mut ends = Vec::new();
    file.extend(wire.interface("web/eth0", &[wire.option(9, &[9]), wire.option(6, &[2, 0, 0, 0, 0, 7])]));
    file.extend(wire.interface(
        "db/eth0",
        &[wire.option(3, b"docker"), wire.option(11, b"\0tcp port 80"), wire.option(99, b"?")],
    ));
    let v4 = wire.option(1, &[&[10, 0, 0, 1][..], b"web\0other\0"].concat());
    let v6 = wire.option(2, &[&[0xfd; 16][..], b"db\0"].concat());
    file.extend(wire.block(NRB, &[v4, wire.option(7, b"unknown"), v6, wire.u32(0)]));
    file.extend(wire.packet(
        0,
        5_000_000_007,
        b"first",
        &[wire.option(1, b"a comment"), wire.option(2, &wire.u32(1)), wire.option(0, b"")],
    ));
    ends.push(file.len());
    file.extend(wire.packet(1, 6_000_000, b"sec", &[wire.option(2, &wire.u32(2))]));
    ends.push(file.len());
    file.extend(wire.block(0xbad, &[wire.u32(32473), b"a custom block, of somebody".to_vec()]));
    file.extend(wire.block(SPB, &[wire.u32(6), b"simple".to_vec()]));
    ends.push(file.len());
    let old = [wire.u16(1), wire.u16(3), wire.u32(0), wire.u32(7), wire.u32(3), wire.u32(3)].concat();
    file.extend(wire.block(PB, &[old, b"old\0".to_vec(), wire.option(2, &wire.u32(1))]));
    ends.push(file.len());
    let counted = [wire.option(4, &wire.u64(12)), wire.option(5, &wire.u64(3))].concat();
    let start = wire.option(2, &[wire.u32(0), wire.u32(4_000_000)].concat());
    file.extend(wire.block(ISB, &[wire.u32(1), wire.u32(0), wire.u32(9_000_000), start, counted]));
    (file, ends)
}

fn packet(time: u64, interface: usize, data: &[u8]) -> Owned {
    Owned { time, interface, direction: None, original: data.len() as u32, data: data.to_vec() }
}

#[test]
fn both_byte_orders_and_every_kind_of_block() {
    for wire in [LITTLE, BIG] {
        let (file, _) = everything(wire);
        let mut reader = Reader::new(Cursor::new(file)).unwrap();
        let first: Owned = reader.next().unwrap().unwrap().into();
        let expected = packet(5_000_000_007, 0, b"first");
        assert_eq!(first, Owned { original: 15, direction: Some(Direction::Inbound), ..expected });
        assert_eq!(reader.comments().collect::<Vec<_>>(), ["a comment"]);
        let second: Owned = reader.next().unwrap().unwrap().into();
        let expected = packet(6_000_000_000, 1, b"sec");
        assert_eq!(second, Owned { original: 13, direction: Some(Direction::Outbound), ..expected });
        assert_eq!(Owned::from(reader.next().unwrap().unwrap()), packet(0, 0, b"simple"));
        let old: Owned = reader.next().unwrap().unwrap().into();
        assert_eq!(old, Owned { direction: Some(Direction::Inbound), ..packet(7000, 1, b"old") });
        assert!(reader.next().unwrap().is_none());

        let about = reader.about();
        assert_eq!(about.section.application.as_deref(), Some("a test"));
        assert_eq!(about.section.comments, ["höchst geheim"]);
        let [web, db] = &about.interfaces[..] else { panic!("{about:?}") };
        assert_eq!((web.name.as_str(), web.mac), ("web/eth0", Some([2, 0, 0, 0, 0, 7])));
        assert_eq!((web.link_type, web.snaplen), (LinkType::ETHERNET, 65535));
        assert_eq!((db.description.as_str(), db.filter.as_deref()), ("docker", Some("tcp port 80")));
        assert_eq!(about.names[&"10.0.0.1".parse::<IpAddr>().unwrap()], "web");
        assert_eq!(about.names[&IpAddr::from([0xfd; 16])], "db");
        let statistics = about.statistics[1].as_ref().unwrap();
        assert_eq!((statistics.received, statistics.dropped), (Some(12), Some(3)));
        assert_eq!(
            (statistics.time, statistics.start),
            (Timestamp(9_000_000_000), Some(Timestamp(4_000_000_000)))
        );
        assert_eq!(about.statistics[0], None);
    }
}

#[test]
fn interfaces_are_counted_through_all_sections() {
    let file =
        [everything(LITTLE).0, everything(BIG).0, LITTLE.section(), LITTLE.interface("x", &[])].concat();
    let file = [file, LITTLE.packet(0, 1, b"", &[])].concat();
    let mut reader = Reader::new(Cursor::new(file)).unwrap();
    let mut seen = Vec::new();
    while let Some(packet) = reader.next().unwrap() {
        seen.push(packet.interface);
    }
    assert_eq!(seen, [0, 1, 0, 1, 2, 3, 2, 3, 4]);
    assert_eq!(reader.about().interfaces[4].name, "x");
}

#[test]
fn units_and_offsets_of_time() {
    let seconds = 1_700_000_000u64;
    for (resolution, ticks, nanoseconds) in [
        (0u8, seconds, seconds * 1_000_000_000),
        (3, seconds * 1000 + 7, seconds * 1_000_000_000 + 7_000_000),
        (9, seconds * 1_000_000_000 + 7, seconds * 1_000_000_000 + 7),
        (10, seconds * 10_000_000_000 + 79, seconds * 1_000_000_000 + 7),
        (0x80 | 20, seconds << 20 | 1 << 19, seconds * 1_000_000_000 + 500_000_000),
        (0x80, seconds, seconds * 1_000_000_000),
        (0x7f, u64::MAX, 0),
        (0xff, u64::MAX, 0),
        (0, u64::MAX, u64::MAX),
    ] {
        for (offset, moved) in [
            (0i64, nanoseconds),
            (-5, nanoseconds.saturating_sub(5_000_000_000)),
            (i64::MAX, u64::MAX),
            (i64::MIN, 0),
        ] {
            let options = [LITTLE.option(9, &[resolution]), LITTLE.option(14, &offset.to_le_bytes())];
            let file = [LITTLE.section(), LITTLE.interface("", &options), LITTLE.packet(0, ticks, b"", &[])];
            let time = whole(file.concat())[0].time;
            // What is beyond the range is at its end, before an offset is looked at or after.
            if nanoseconds < u64::MAX || offset == 0 {
                assert_eq!(time, moved, "resolution {resolution:#x}, offset {offset}");
            }
        }
    }
}

fn pcap(wire: Wire, magic: u32, version: (u16, u16), records: &[Vec<u8>]) -> Vec<u8> {
    let versions = [wire.u16(version.0), wire.u16(version.1)].concat();
    let header = [wire.u32(magic), versions, vec![0; 8], wire.u32(65535), wire.u32(1)].concat();
    [header, records.concat()].concat()
}

fn pcap_record(wire: Wire, lengths: (u32, u32), more: &[u8], data: &[u8]) -> Vec<u8> {
    let numbers = [wire.u32(1_700_000_000), wire.u32(7), wire.u32(lengths.0), wire.u32(lengths.1)].concat();
    [&numbers, more, data].concat()
}

#[test]
fn pcap_in_all_its_variants() {
    for wire in [LITTLE, BIG] {
        let plain = |lengths| pcap_record(wire, lengths, &[], b"data");
        for (magic, version, record, unit, direction) in [
            (0xa1b2_c3d4, (2, 4), plain((4, 9)), 1000, None),
            (0xa1b2_3c4d, (2, 4), plain((4, 9)), 1, None),
            (0xa1b2_c3d4, (2, 2), plain((9, 4)), 1000, None),
            (0xa1b2_c3d4, (2, 3), plain((9, 4)), 1000, None),
            (0xa1b2_c3d4, (2, 3), plain((4, 9)), 1000, None),
            (0xa1b2_c3d4, (543, 0), plain((9, 4)), 1000, None),
            (
                0xa1b2_cd34,
                (2, 4),
                pcap_record(wire, (4, 9), &[1, 0, 0, 0, 8, 0, 4, 0], b"data"),
                1000,
                Some(Direction::Outbound),
            ),
        ] {
            let found = whole(pcap(wire, magic, version, &[record.clone(), record]));
            let one =
                Owned { original: 9, direction, ..packet(1_700_000_000_000_000_000 + 7 * unit, 0, b"data") };
            assert_eq!(found, [one.clone(), one], "{magic:#x} {version:?}");
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn what_is_compressed_reads_as_what_is_not() {
    let (file, _) = everything(LITTLE);
    let all = whole(file.clone());
    let (one, two) = file.split_at(100);
    let zstd = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 9, 9, 9, 9][..], &zstd(&file)].concat();
    for packed in [
        gzip(&file),
        zstd(&file),
        [gzip(one), gzip(two)].concat(),
        [zstd(one), zstd(two)].concat(),
        skippable,
    ] {
        assert_eq!(whole(packed.clone()), all);
        let (_, fault) = packets(Cursor::new(packed[..packed.len() - 3].to_vec()));
        let fault = fault.unwrap();
        assert!(fault.is_truncation(), "{fault}");
        for place in 0..packed.len() {
            let mut packed = packed.clone();
            packed[place] ^= 0x55;
            packets(Cursor::new(packed));
        }
    }
}

#[test]
fn batches_hold_what_is_read_one_by_one() {
    let many: Vec<u8> =
        (0..3000u32).flat_map(|n| LITTLE.packet(0, n.into(), &vec![n as u8; 1000], &[])).collect();
    let file = [LITTLE.section(), LITTLE.interface("x", &[]), many].concat();
    let all = whole(file.clone());
    let mut reader = Reader::new(Cursor::new(file)).unwrap();
    let mut found: Vec<Owned> = Vec::new();
    for _ in 0..7 {
        found.push(reader.next().unwrap().unwrap().into());
    }
    let (mut used, mut batches) = (Batch::default(), 0);
    while let Some(batch) = reader.next_batch(used).unwrap() {
        assert!(!batch.is_empty());
        assert_eq!(batch.about().interfaces.len(), 1);
        assert_eq!(batch.get(batch.len()).map(Owned::from), None);
        found.extend(batch.iter().map(Owned::from));
        batches += 1;
        used = batch;
    }
    assert_eq!(found, all);
    assert!(batches > 2);
}

#[test]
fn a_batch_keeps_what_was_known_then() {
    let file = [everything(LITTLE).0, everything(BIG).0].concat();
    let mut reader = Reader::new(Drops(Cursor::new(file), 300)).unwrap();
    let first = reader.next_batch(Batch::default()).unwrap().unwrap();
    let then = Arc::clone(first.about());
    while reader.next().unwrap().is_some() {}
    assert_eq!(then.interfaces.len(), 2);
    assert_eq!(reader.about().interfaces.len(), 4);
}

#[test]
fn several_workers_write_in_the_files_order_and_tell_of_the_fault_last() {
    let many: Vec<u8> = (0..5000u32).flat_map(|n| LITTLE.packet(0, n.into(), &[n as u8; 500], &[])).collect();
    let file = [LITTLE.section(), LITTLE.interface("x", &[]), many].concat();
    for workers in [0, 1, 2, 7] {
        for most in [usize::MAX, 5000] {
            let mut reader = Reader::new(Drops(Cursor::new(file[..file.len() - 1].to_vec()), most)).unwrap();
            let mut times = Vec::new();
            let next = |_: &Batch, _: &mut ()| ControlFlow::Continue(());
            let work = || {
                |batch: &Batch, _: &(), made: &mut Vec<u8>| {
                    assert!(made.is_empty());
                    batch.iter().for_each(|packet| made.extend(packet.time.0.to_le_bytes()));
                }
            };
            let write = |made: &[u8]| {
                times.extend(made.chunks(8).map(|time| u64::from_le_bytes(time.try_into().unwrap()) / 1000));
                ControlFlow::Continue(())
            };
            let fault = reader.for_each_batch(workers, next, work, write).unwrap_err();
            assert!(fault.is_truncation(), "{fault}");
            assert!(times.iter().copied().eq(0..4999), "{workers} workers");
        }
    }
}

#[test]
fn who_writes_can_end_the_reading() {
    let endless = Cursor::new([LITTLE.section(), LITTLE.interface("x", &[])].concat());
    let mut reader = Reader::new(endless.chain(Again(LITTLE.packet(0, 1, b"again", &[]), 0))).unwrap();
    let mut left = 10;
    let write = |_: &[u8]| {
        left -= 1;
        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let next = |_: &Batch, _: &mut ()| ControlFlow::Continue(());
    reader.for_each_batch(3, next, || |_: &Batch, _: &(), _: &mut Vec<u8>| (), write).unwrap();
    assert_eq!(left, 0);
}
