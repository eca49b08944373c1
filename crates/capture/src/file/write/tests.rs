//! What is written can be read, and what cannot be written leaves whole blocks.

use std::fs::File;
use std::io::{Read, Seek, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use proptest::prelude::*;

use super::*;
use crate::file::{ReadError, Reader};
use crate::packet::{Direction, LinkType, Timestamp};

fn interface(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        description: format!("docker, the link {name}"),
        link_type: LinkType::ETHERNET,
        snaplen: 262_144,
        mac: Some([2, 0, 0, 0, 0, 9]),
        filter: Some("tcp port 80".to_owned()),
    }
}

fn packet(number: u64, data: &[u8]) -> Packet<'_> {
    Packet {
        time: Timestamp(1_700_000_000_000_000_000 + number),
        interface: 0,
        direction: [None, Some(Direction::Inbound), Some(Direction::Outbound)][number as usize % 3],
        original_length: data.len() as u32 + 4,
        data,
    }
}

/// Time, direction, original length, and bytes of a packet.
type Owned = (u64, Option<Direction>, u32, Vec<u8>);

/// The packets of a file, with the fault at its end.
fn read(mut file: File) -> (Vec<Owned>, Option<ReadError>) {
    file.rewind().unwrap();
    let mut reader = Reader::new(file).unwrap();
    let mut found = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(p)) => found.push((p.time.0, p.direction, p.original_length, p.data.to_vec())),
            Ok(None) => return (found, None),
            Err(e) => return (found, Some(e)),
        }
    }
}

#[test]
fn all_that_is_said_can_be_read_again() {
    let file = tempfile::tempfile().unwrap();
    let section = Section {
        hardware: Some("a machine".into()),
        os: Some("Linux".into()),
        application: Some("snorkel".into()),
        comments: vec!["one".into(), "zwölf".into()],
    };
    let mut writer = Writer::new(file.try_clone().unwrap(), "test", &section);
    let names: Vec<(IpAddr, String)> =
        (0..2500u32).map(|n| (Ipv4Addr::from_bits(n).into(), format!("name-{n}"))).collect();
    writer.names(names.iter().map(|(address, name)| (*address, name.as_str()))).unwrap();
    writer.names([(IpAddr::from([7u16; 8]), "six")]).unwrap();
    let plain = Interface { mac: None, filter: None, snaplen: 0, ..interface("web/eth0") };
    assert_eq!(writer.interface(&plain).unwrap(), 0);
    writer.packet(&packet(1, b"before the second interface")).unwrap();
    assert_eq!(writer.interface(&interface("db/eth0")).unwrap(), 1);
    writer.packet(&Packet { interface: 1, ..packet(2, b"after it") }).unwrap();
    let statistics = Statistics {
        time: Timestamp(9),
        start: Some(Timestamp(u64::MAX)),
        end: Some(Timestamp(7)),
        received: Some(1 << 40),
        dropped: Some(0),
        filter_accepted: None,
        os_dropped: Some(3),
        delivered: Some(4),
        comments: vec!["lost by the disk".into()],
    };
    writer.statistics(1, &statistics).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!(written, Written { packets: 2, bytes: file.metadata().unwrap().len() });

    let mut again = file;
    again.rewind().unwrap();
    let mut reader = Reader::new(again).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().data, b"before the second interface");
    assert_eq!(reader.next().unwrap().unwrap().interface, 1);
    assert!(reader.next().unwrap().is_none());
    let about = reader.about();
    assert_eq!(about.section, section);
    assert_eq!(about.interfaces, [plain, interface("db/eth0")]);
    assert_eq!(about.statistics, [None, Some(statistics)]);
    assert_eq!(about.names.len(), 2501);
    assert!(names.iter().all(|(address, name)| about.names[address] == *name));
}

#[test]
fn texts_that_are_too_long_are_cut_at_a_character() {
    let file = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(file.try_clone().unwrap(), "test", &Section::default());
    let long = "ü".repeat(40_000);
    let described = Interface { description: long.clone(), filter: Some(long.clone()), ..interface("x") };
    writer.interface(&described).unwrap();
    writer
        .names([(IpAddr::from([1, 2, 3, 4]), long.as_str()), (IpAddr::from([1, 2, 3, 5]), "a\0b")])
        .unwrap();
    writer.packet(&packet(0, b"x")).unwrap();
    writer.finish().unwrap();
    let mut again = file;
    again.rewind().unwrap();
    let mut reader = Reader::new(again).unwrap();
    assert!(reader.next().unwrap().is_some());
    let about = reader.about();
    assert_eq!(about.interfaces[0].description, "ü".repeat(32_767));
    assert_eq!(about.interfaces[0].filter.as_deref(), Some("ü".repeat(32_767).as_str()));
    assert_eq!(about.names[&IpAddr::from([1, 2, 3, 4])], "ü".repeat(512));
    assert_eq!(about.names[&IpAddr::from([1, 2, 3, 5])], "a");
}

#[test]
fn a_packet_that_is_too_long_for_others_is_cut_and_says_so() {
    let file = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(file.try_clone().unwrap(), "test", &Section::default());
    writer.interface(&interface("x")).unwrap();
    let data = vec![5; LONGEST + 1];
    writer.packet(&packet(0, &data)).unwrap();
    writer.finish().unwrap();
    let (found, fault) = read(file);
    assert!(fault.is_none());
    assert_eq!((found[0].2 as usize, found[0].3.len()), (LONGEST + 5, LONGEST));
}

#[test]
fn an_interface_that_was_not_announced_is_refused() {
    let mut writer = Writer::new(tempfile::tempfile().unwrap(), "test", &Section::default());
    let refused = writer.packet(&packet(0, b"")).unwrap_err();
    assert!(matches!(refused, WriteError::UnknownInterface { interface: 0, known: 0 }));
    assert!(writer.statistics(0, &Statistics::default()).is_err());
    assert_eq!(writer.written().packets, 0);
}

#[test]
fn a_closed_pipe_is_its_own_error() {
    let (reader, pipe) = std::io::pipe().unwrap();
    drop(reader);
    let mut writer = Writer::new(pipe, "standard output", &Section::default());
    let closed = writer.flush().unwrap_err();
    assert!(matches!(closed, WriteError::Closed { .. }), "{closed}");
    assert_eq!(closed.to_string(), "nobody reads standard output any more");
}

#[test]
fn a_device_that_is_full_says_how_many_packets_it_cost() {
    for long in [10, LONG] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut writer = Writer::new(full, "/dev/full", &Section::default());
        writer.interface(&interface("x")).unwrap();
        writer.interface(&interface("y")).unwrap();
        for number in 0..5 {
            let interface = usize::from(number >= 3);
            writer.packet(&Packet { interface, ..packet(number, b"short") }).unwrap();
        }
        let data = vec![1; long];
        let error = writer.packet(&packet(5, &data)).and_then(|()| writer.flush()).unwrap_err();
        let WriteError::Full { lost, .. } = error else { panic!("{error}") };
        assert_eq!((lost.total(), lost.of(0), lost.of(1), writer.written().packets), (6, 4, 2, 0));
        let again = writer.packet(&packet(6, &data)).and_then(|()| writer.flush()).unwrap_err();
        assert!(matches!(&again, WriteError::Full { lost, .. } if lost.total() == 1), "{again}");
        assert_eq!(writer.written().packets, 0);
    }
}

#[test]
fn packets_that_are_not_tried_any_more_are_counted_too() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut writer = Writer::new(full, "/dev/full", &Section::default());
    writer.interface(&interface("x")).unwrap();
    writer.interface(&interface("y")).unwrap();
    let data = vec![1; 100_000];
    // Half of them are more than is written at a time.
    let packets: Vec<Packet<'_>> = (0..30)
        .map(|number| Packet { interface: usize::from(number >= 20), ..packet(number, &data) })
        .collect();
    let error = writer.packets(&packets).unwrap_err();
    let WriteError::Full { lost, .. } = error else { panic!("{error}") };
    assert_eq!((lost.total(), lost.of(0), lost.of(1), writer.written().packets), (30, 20, 10, 0));
}

#[test]
fn of_packets_with_an_unknown_interface_among_them_none_is_written() {
    let file = tempfile::tempfile().unwrap();
    let mut writer = Writer::new(file.try_clone().unwrap(), "test", &Section::default());
    writer.interface(&interface("x")).unwrap();
    let data = vec![1; LONG];
    let refused = writer.packets(&[packet(0, &data), Packet { interface: 1, ..packet(1, b"") }]).unwrap_err();
    assert!(matches!(refused, WriteError::UnknownInterface { interface: 1, known: 1 }));
    writer.finish().unwrap();
    let (found, fault) = read(file);
    assert!(found.is_empty() && fault.is_none());
}

#[test]
fn long_packets_are_written_together() {
    let (receiver, sender) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    let mut writer = Writer::new(sender, "a socket", &Section::default());
    writer.interface(&interface("x")).unwrap();
    writer.flush().unwrap();
    let data = vec![1; LONG];
    let packets: Vec<Packet<'_>> = (0..10).map(|number| packet(number, &data)).collect();
    writer.packets(&packets).unwrap();
    drop(writer);
    // What was written at a time arrives at a time.
    let mut receiver = File::from(receiver);
    let mut message = vec![0; 1 << 20];
    let mut lengths = Vec::new();
    while let length @ 1.. = receiver.read(&mut message).unwrap() {
        lengths.push(length);
    }
    assert_eq!(lengths.len(), 2, "{lengths:?}");
    assert!(lengths[1] > 10 * LONG);
}

#[test]
fn a_pipe_that_does_not_wait_is_waited_for() {
    let (mut reader, pipe) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&pipe, true).unwrap();
    let taken = std::thread::spawn(move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all
    });
    let mut writer = Writer::new(pipe, "a pipe", &Section::default());
    writer.interface(&interface("x")).unwrap();
    let data = vec![7; 100_000];
    for number in 0..50 {
        writer.packet(&packet(number, &data)).unwrap();
        writer.packet(&packet(number, b"short")).unwrap();
    }
    writer.finish().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&taken.join().unwrap()).unwrap();
    let (found, fault) = read(file);
    assert_eq!(found.len(), 100);
    assert!(fault.is_none());
}

#[test]
fn after_each_flush_a_compressed_file_is_whole() {
    let file = tempfile::tempfile().unwrap();
    let mut writer =
        Writer::new(file.try_clone().unwrap(), "test", &Section::default()).compressed().unwrap();
    writer.interface(&interface("x")).unwrap();
    let mut copies = Vec::new();
    for number in 0..20u8 {
        writer.packet(&packet(number.into(), &vec![number; 1000 * usize::from(number)])).unwrap();
        writer.flush().unwrap();
        let mut copy = tempfile::tempfile().unwrap();
        let mut bytes = Vec::new();
        let mut from =
            File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file))).unwrap();
        from.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, writer.size());
        copy.write_all(&bytes).unwrap();
        copies.push(copy);
    }
    writer.finish().unwrap();
    copies.push(file);
    for (number, copy) in copies.into_iter().enumerate() {
        let (found, fault) = read(copy);
        assert_eq!(found.len(), (number + 1).min(20));
        assert!(fault.is_none(), "{}", fault.unwrap());
    }
}

#[test]
fn a_compressed_pipe_is_whole_at_its_end() {
    let (mut reader, pipe) = std::io::pipe().unwrap();
    let mut writer = Writer::new(pipe, "a pipe", &Section::default()).compressed().unwrap();
    writer.interface(&interface("x")).unwrap();
    for number in 0..20 {
        writer.packet(&packet(number, b"short")).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    let mut file = tempfile::tempfile().unwrap();
    std::io::copy(&mut reader, &mut file).unwrap();
    let (found, fault) = read(file);
    assert_eq!(found.len(), 20);
    assert!(fault.is_none());
}

#[test]
fn a_file_that_is_appended_to_keeps_what_was_there() {
    let named = tempfile::NamedTempFile::new().unwrap();
    for compress in [false, true] {
        let appending: OwnedFd = File::options().append(true).open(named.path()).unwrap().into();
        let mut writer = Writer::new(appending, "test", &Section::default());
        if compress {
            // In a file of its own: the two do not mix.
            named.as_file().set_len(0).unwrap();
            writer = writer.compressed().unwrap();
        }
        writer.interface(&interface("x")).unwrap();
        for number in 0..3 {
            writer.packet(&packet(number, b"short")).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
        let (found, fault) = read(File::open(named.path()).unwrap());
        assert_eq!(found.len(), 3);
        assert!(fault.is_none(), "{}", fault.unwrap());
    }
}

proptest! {
    #[test]
    fn packets_come_back_as_they_were(
        lengths in proptest::collection::vec(prop_oneof![0usize..70, 0usize..20_000], 1..40),
        compress: bool,
        together in 1usize..10,
        flush: bool,
    ) {
        let file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(file.try_clone().unwrap(), "test", &Section::default());
        if compress {
            writer = writer.compressed().unwrap();
        }
        writer.interface(&interface("x")).unwrap();
        let data: Vec<Vec<u8>> = lengths
            .iter()
            .enumerate()
            .map(|(number, &length)| (0..length).map(|at| (at * 7 + number) as u8).collect())
            .collect();
        let packets: Vec<Packet<'_>> =
            data.iter().enumerate().map(|(number, data)| packet(number as u64, data)).collect();
        for some in packets.chunks(together) {
            let size = writer.size_with(&some[0]);
            writer.packets(some).unwrap();
            prop_assert!(compress || some.len() > 1 || writer.size() == size);
            if flush {
                writer.flush().unwrap();
            }
        }
        let expected: Vec<Owned> =
            packets.iter().map(|p| (p.time.0, p.direction, p.original_length, p.data.to_vec())).collect();
        let written = writer.finish().unwrap();
        prop_assert_eq!(written.packets as usize, lengths.len());
        prop_assert_eq!(written.bytes, file.metadata().unwrap().len());
        let (found, fault) = read(file);
        prop_assert!(fault.is_none());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn the_last_whole_block_is_found_wherever_it_ends(
        lengths in proptest::collection::vec(0usize..50, 1..10),
        splits in proptest::array::uniform2(0.0..1.0f64),
        written in 0.0..1.0f64,
    ) {
        let mut blocks = Vec::new();
        encode::section(&mut blocks, &Section::default());
        let mut ends = vec![(blocks.len(), 0)];
        for (number, &length) in lengths.iter().enumerate() {
            let data = vec![6; length];
            let packet = packet(number as u64, &data);
            blocks.extend_from_slice(&encode::packet_header(&packet, length));
            blocks.extend_from_slice(&data);
            let (tail, tail_length) = encode::packet_tail(length, packet.direction);
            blocks.extend_from_slice(&tail[..tail_length]);
            ends.push((blocks.len(), number + 1));
        }
        let place = |part: f64| (part * (blocks.len() + 1) as f64) as usize;
        let [a, b] = splits.map(place);
        let (a, b) = (a.min(b).min(blocks.len()), a.max(b).min(blocks.len()));
        let written = place(written).min(blocks.len());
        let (kept, lost) = encode::whole(&[&blocks[..a], &blocks[a..b], &[], &blocks[b..]], written);
        let (end, packets) = ends.iter().rfind(|(end, _)| *end <= written).copied().unwrap_or((0, 0));
        prop_assert_eq!((kept, lost.total() as usize), (end, lengths.len() - packets));
    }
}
