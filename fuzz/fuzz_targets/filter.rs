//! Filters: the expression is the input's beginning up to the first line break, the packet is the rest. The first byte
//! chooses what the filter is for.
#![no_main]

use snorkel_capture::LinkType;
use snorkel_capture::filter::{Filter, Metadata, Mode, Options, SystemNames};

const LINK_TYPES: [LinkType; 8] = [
    LinkType::ETHERNET,
    LinkType::LINUX_SLL,
    LinkType::LINUX_SLL2,
    LinkType::RAW,
    LinkType::PPP,
    LinkType::NULL,
    LinkType::IPV6,
    LinkType(105),
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let text = String::from_utf8_lossy(&rest[..end]);
    let packet = rest.get(end + 1..).unwrap_or_default();
    let names = SystemNames::default();
    let options = Options {
        link_type: LINK_TYPES[usize::from(first & 7)],
        snaplen: 0,
        mode: if first & 8 == 0 { Mode::File } else { Mode::Live },
        names: &names,
        netmask: (first & 16 == 0).then_some(0xffff_ff00),
        swapped: first & 32 != 0,
    };
    match Filter::compile(&text, &options) {
        Ok(filter) => {
            let metadata = Metadata {
                packet_type: Some(4),
                link_index: Some(1),
                vlan_tag: (first & 64 == 0).then_some(5),
            };
            filter.run(packet, packet.len() as u32, &metadata);
            filter.disassembly();
            if let Ok(program) = filter.kernel_program() {
                // Whatever the kernel would refuse: a jump out of the program, a cell or an instruction that is not there.
                assert!((1..=4096).contains(&program.len()));
                for (at, instruction) in program.iter().enumerate() {
                    let left = program.len() - at - 1;
                    match instruction.code {
                        0x05 => assert!((instruction.k as usize) < left),
                        code if code & 7 == 5 => {
                            assert!(usize::from(instruction.jt.max(instruction.jf)) < left)
                        }
                        0x02 | 0x03 | 0x60 | 0x61 => assert!(instruction.k < 16),
                        0x34 | 0x94 => assert_ne!(instruction.k, 0),
                        0x64 | 0x74 => assert!(instruction.k < 32),
                        _ => {}
                    }
                }
                assert_eq!(program.last().map(|instruction| instruction.code), Some(0x06));
            }
        }
        Err(error) => {
            assert!(text.get(error.span.clone()).is_some());
            error.render(&text);
        }
    }
});
