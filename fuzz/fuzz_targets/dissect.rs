//! Packets of every link type, as lines of every style, as JSON, and in the table of flows. Whatever comes in, what
//! goes out is printable and not out of all proportion.
#![no_main]

use std::sync::Arc;

use snorkel_capture::dissect::{Base, Hex, Printer, Sequences, Style, Summary, TimeFormat};
use snorkel_capture::flows::Flows;
use snorkel_capture::names::Names;
use snorkel_capture::{Interface, LinkType, Packet, Timestamp};

const LINK_TYPES: [u16; 10] = [1, 0, 9, 101, 108, 113, 228, 229, 276, 147];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&[link_type, more, switches], mut rest)) = bytes.split_first_chunk::<3>() else { return };
    let interface = Interface {
        name: "web/eth0".to_owned(),
        description: String::new(),
        link_type: LinkType(LINK_TYPES[usize::from(link_type) % LINK_TYPES.len()]),
        snaplen: 0,
        mac: None,
        filter: None,
    };
    let style = Style {
        time: if switches & 1 == 0 { TimeFormat::Clock } else { TimeFormat::Date },
        link_header: switches & 2 != 0,
        verbose: switches & 4 != 0,
        hex: if switches & 8 != 0 { Hex::Ascii } else { Hex::None },
        ..Style::default()
    };
    let names = Arc::new(Names::new());
    let mut printer = Printer::new(style, Arc::clone(&names));
    printer.interface(&interface);
    let mut sequences = Sequences::new(8);
    let mut flows = Flows::new(2);
    let mut out = Vec::new();
    let mut time = 0;
    // Several packets, each with its length before it, so that connections can go on.
    while let Some((&[high, low], tail)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(tail.len());
        let (data, tail) = tail.split_at(length);
        rest = tail;
        time += 100_000_000 + u64::from(low);
        let original_length = data.len() as u32 + u32::from(more) * 7;
        let packet = Packet { time: Timestamp(time), interface: 0, direction: None, original_length, data };
        out.clear();
        let base =
            if switches & 16 == 0 { Base::default() } else { sequences.base(interface.link_type, &packet) };
        printer.line(&packet, base, &mut out);
        assert!(
            out.iter().all(|byte| matches!(byte, b'\n' | b'\t' | 0x20..=0x7e)),
            "a byte that is not printable"
        );
        // Each of the names in a message of DNS may be compressed: 255 bytes, escaped, for each of 128 records.
        assert!(out.len() < 200_000 + 8 * data.len(), "a packet of {} bytes gave {}", data.len(), out.len());
        let summary = Summary::new(&packet, &interface, &names);
        let json =
            serde_json::to_string(&summary).expect("a summary has no maps with odd keys and no odd numbers");
        assert!(json.is_ascii());
        flows.add(interface.link_type, &packet);
    }
    let report = flows.report();
    assert!(report.flows.len() <= 2);
});
