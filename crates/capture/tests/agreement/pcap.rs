//! Just enough of pcap files, in this machine's byte order, to hand packets to the tools and take theirs.

use std::path::Path;

use snorkel_capture::{Interface, LinkType, Packet, Timestamp};

/// A file's packets, all of one interface.
pub(crate) struct File {
    bytes: Vec<u8>,
    pub(crate) interface: Interface,
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

impl File {
    pub(crate) fn read(path: &Path) -> File {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(word(&bytes, 0), 0xa1b2_c3d4, "a pcap file with microseconds, of this machine");
        let interface = Interface {
            name: String::new(),
            description: String::new(),
            link_type: LinkType(word(&bytes, 20) as u16),
            snaplen: 0,
            mac: None,
            filter: None,
        };
        File { bytes, interface }
    }

    pub(crate) fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let mut at = 24;
        std::iter::from_fn(move || {
            let header = self.bytes.get(at..at + 16)?;
            let data = &self.bytes[at + 16..at + 16 + word(header, 8) as usize];
            at += 16 + data.len();
            let time = u64::from(word(header, 0)) * 1_000_000_000 + u64::from(word(header, 4)) * 1000;
            let original_length = word(header, 12);
            Some(Packet { time: Timestamp(time), interface: 0, direction: None, original_length, data })
        })
    }
}

/// Writes packets, each with its length on the link, a second after the other.
pub(crate) fn write(path: &Path, link_type: LinkType, packets: &[(Vec<u8>, usize)]) {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, u32::from(link_type.0)] {
        bytes.extend(word.to_ne_bytes());
    }
    for (at, (data, length)) in packets.iter().enumerate() {
        for word in [1_700_000_000 + at as u32, 1000, data.len() as u32, *length as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(data);
    }
    std::fs::write(path, bytes).unwrap();
}
