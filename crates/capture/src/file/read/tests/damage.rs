//! Captures that are cut short, and captures that lie.

use proptest::prelude::*;

use super::*;

#[test]
fn a_file_that_is_cut_anywhere_gives_all_whole_packets_and_an_error() {
    let record = pcap_record(LITTLE, (4, 9), &[], b"data");
    let old = pcap(LITTLE, 0xa1b2_c3d4, (2, 4), &[record.clone(), record]);
    for (file, ends) in [everything(LITTLE), everything(BIG), (old, vec![44, 64])] {
        let all = whole(file.clone());
        let mut between = 0;
        for length in 1..file.len() {
            let (found, fault) = packets(Cursor::new(file[..length].to_vec()));
            let expected = ends.iter().filter(|&&end| end <= length).count();
            assert_eq!(found, all[..expected], "cut at {length}");
            match fault {
                // Between two blocks nobody can know that something is missing.
                None => between += 1,
                Some(ReadError::NotACapture { .. }) if length < 4 => {}
                Some(ReadError::Truncated { offset, wanted, got, .. }) => {
                    assert_eq!(offset + got, length as u64);
                    assert!(wanted > got);
                }
                Some(other) => panic!("cut at {length}: {other}"),
            }
        }
        assert!(between < 12, "{between} cuts were not noticed");
    }
}

#[test]
fn a_cut_file_is_told_of_as_such() {
    let (file, ends) = everything(LITTLE);
    let (_, fault) = packets(Cursor::new(file[..ends[0] - 1].to_vec()));
    let said = fault.unwrap().to_string();
    let block = LITTLE.packet(0, 0, b"first", &[LITTLE.option(1, b"a comment"), vec![0; 12]]).len();
    let start = ends[0] - block;
    let words =
        format!("cut short: a block at byte {start} has to have {block} bytes, and {} are there", block - 1);
    assert!(said.contains(&words), "{said}");
}

#[test]
fn a_block_whose_two_lengths_differ_is_told_of_with_its_place() {
    for wire in [LITTLE, BIG] {
        let (file, ends) = everything(wire);
        for (number, end) in ends.into_iter().enumerate() {
            let mut file = file.clone();
            file[end - 4..end].copy_from_slice(&wire.u32(4));
            let (found, fault) = packets(Cursor::new(file));
            assert_eq!(found.len(), number);
            let Some(ReadError::Damaged { offset, what }) = fault else { panic!("not noticed") };
            assert!((offset as usize) < end && end - (offset as usize) < 100);
            assert!(what.contains("and at its end that it is 4"), "{what}");
        }
    }
}

#[test]
fn no_flipped_byte_does_harm() {
    let record = pcap_record(LITTLE, (4, 9), &[], b"data");
    let old = pcap(LITTLE, 0xa1b2_c3d4, (2, 4), &[record.clone(), record]);
    for file in [everything(LITTLE).0, everything(BIG).0, old] {
        let all = whole(file.clone()).len();
        for place in 0..file.len() {
            for flip in [1, 2, 4, 8, 16, 32, 64, 128, 0xff] {
                let mut file = file.clone();
                file[place] ^= flip;
                let (found, fault) = packets(Cursor::new(file));
                assert!(found.len() <= all, "byte {place} made packets");
                if let Some(fault) = fault {
                    assert!(!fault.to_string().is_empty());
                }
            }
        }
    }
}

#[test]
fn no_length_that_lies_does_harm() {
    for wire in [LITTLE, BIG] {
        let (file, _) = everything(wire);
        let lies =
            [0, 1, 4, 8, 12, 13, 16, 28, 1 << 16, 1 << 24, 0x7fff_fffc, 0x8000_0000, u32::MAX - 3, u32::MAX];
        for place in (4..file.len() - 4).step_by(4) {
            for lie in lies {
                let mut file = file.clone();
                file[place..place + 4].copy_from_slice(&wire.u32(lie));
                // How far the buffer grows is asserted in there.
                packets(Cursor::new(file));
            }
        }
    }
}

#[test]
fn a_block_that_nobody_wants_is_skipped_without_being_kept() {
    let huge = 64usize << 20;
    let length = LITTLE.u32(huge as u32 + 12);
    let file =
        [LITTLE.section(), LITTLE.interface("x", &[]), LITTLE.u32(0x4000_0bad), length.clone()].concat();
    let before = file.len() - 8;
    let source = |last: Vec<u8>| {
        let rest = [last, LITTLE.packet(0, 1, b"after", &[])].concat();
        Cursor::new(file.clone()).chain(io::repeat(7).take(huge as u64)).chain(Cursor::new(rest))
    };
    let (found, fault) = packets(source(length.clone()));
    assert_eq!(found.len(), 1);
    assert!(fault.is_none());
    let (found, fault) = packets(source(LITTLE.u32(16)));
    assert!(found.is_empty());
    assert!(fault.unwrap().to_string().contains("at its end that it is 16"));
    for left in [0, 3] {
        let cut = Cursor::new(file.clone()).chain(io::repeat(7).take(huge as u64 + left));
        let Some(ReadError::Truncated { offset, wanted, got, .. }) = packets(cut).1 else {
            panic!("not noticed")
        };
        assert_eq!((offset, wanted, got), (before as u64, huge as u64 + 12, huge as u64 + 8 + left));
    }
    let cut = Cursor::new(file.clone()).chain(io::repeat(7).take(1 << 20));
    let Some(ReadError::Truncated { offset, got, .. }) = packets(cut).1 else { panic!("not noticed") };
    assert_eq!((offset, got), (before as u64, 8 + (1 << 20)));
}

#[test]
fn a_file_that_only_wants_memory_is_refused() {
    let one = LITTLE.interface("many", &[]);
    let file = Cursor::new(LITTLE.section()).chain(Cursor::new(one.repeat(1 << 20)));
    let fault = packets(file).1.unwrap();
    assert!(fault.to_string().contains("more than 64 MiB"), "{fault}");
}

#[test]
fn the_longest_packets_fit_and_longer_ones_are_lies() {
    let longest = vec![3; 256 << 10];
    let file = |data: &[u8]| {
        [LITTLE.section(), LITTLE.interface("x", &[]), LITTLE.packet(0, 1, data, &[]).repeat(9)].concat()
    };
    let found = whole(file(&longest));
    assert_eq!(found.len(), 9);
    assert!(found.iter().all(|packet| packet.data == longest));
    let (found, fault) = packets(Cursor::new(file(&vec![3; (256 << 10) + 1])));
    assert!(found.is_empty());
    assert!(fault.unwrap().to_string().contains("the most is 262144"));
}

#[test]
fn a_packet_of_an_interface_of_another_section_is_an_error() {
    let file = [everything(LITTLE).0, LITTLE.section(), LITTLE.packet(0, 1, b"", &[])].concat();
    let (found, fault) = packets(Cursor::new(file));
    assert_eq!(found.len(), 4);
    assert!(fault.unwrap().to_string().contains("interface 0, and the section has described 0"));
}

#[test]
fn what_is_no_capture_is_called_so() {
    for (bytes, words) in [
        (&b""[..], "empty"),
        (b"a\n", "begins with the bytes 61 0a"),
        (b"#!/bin/sh", "begins with the bytes 23 21 2f 62"),
        (&pcap(LITTLE, 0xa1b2_c3d4, (2, 5), &[]), "pcap of version 2.5, at byte 0"),
        (&pcap(LITTLE, 0xa1b2_c3d4, (3, 0), &[]), "version 3.0"),
    ] {
        let (found, fault) = packets(Cursor::new(bytes.to_vec()));
        assert!(found.is_empty());
        let said = fault.unwrap().to_string();
        assert!(said.contains(words), "{said}");
    }
    let directory = Reader::open(Path::new("/")).unwrap_err();
    assert_eq!(directory.to_string(), "cannot open /");
}

proptest! {
    #[test]
    fn it_does_not_matter_how_many_bytes_come_at_a_time(most in 1usize..200, big: bool, cut in 0usize..40) {
        let (mut file, _) = everything(Wire(big));
        file.extend(everything(Wire(!big)).0);
        file.truncate(file.len() - cut);
        let (expected, fault) = packets(Cursor::new(file.clone()));
        let (found, other) = packets(Drops(Cursor::new(file), most));
        prop_assert_eq!(expected, found);
        prop_assert_eq!(fault.map(|e| e.to_string()), other.map(|e| e.to_string()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(
        kind in 0usize..4,
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        most in 1usize..700,
    ) {
        let mut file = match kind {
            0 => Vec::new(),
            1 => [LITTLE.section(), LITTLE.interface("x", &[])].concat(),
            2 => [BIG.section(), BIG.interface("x", &[])].concat(),
            _ => pcap(LITTLE, 0xa1b2_c3d4, (2, 4), &[]),
        };
        file.extend(bytes);
        packets(Drops(Cursor::new(file), most));
    }

    #[test]
    fn any_body_of_a_block_is_read_or_refused(
        big: bool,
        kind in prop::sample::select(vec![SHB, IDB, NRB, ISB, EPB, PB, SPB, 10]),
        body in proptest::collection::vec(prop_oneof![Just(0u8), 0u8..16, any::<u8>()], 0..200),
    ) {
        let wire = Wire(big);
        let file = [wire.section(), wire.interface("x", &[]), wire.block(kind, &[body])].concat();
        packets(Cursor::new(file));
    }
}
