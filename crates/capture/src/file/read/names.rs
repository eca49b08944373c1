//! Names of addresses in a pcapng file: in its name resolution blocks, which may also stand at its end.
//!
//! A name holds for the whole of a file. Who writes a capture in which names change can only say at its end which of them
//! held throughout; so the end of a file is looked at first, where that can be done.

use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::FileExt;

use super::pcapng::{order_of, text};
use crate::file::Names;
use crate::file::block::{self, FRAME, Options, Order, record};

/// So much of a file's end is looked at.
const TAIL: u64 = 1 << 20;

/// The addresses of a name resolution block's body, each with its first name.
pub(super) fn records(body: &[u8], order: Order) -> impl Iterator<Item = (IpAddr, &[u8])> {
    // Records look as options do; what comes after the last one are options, which matter to nobody here.
    Options::new(body, order).take_while(|(code, _)| *code != record::END).filter_map(|(code, value)| {
        let (address, names): (IpAddr, &[u8]) = match code {
            record::IPV4 => {
                value.split_first_chunk::<4>().map(|(address, names)| ((*address).into(), names))?
            }
            record::IPV6 => {
                value.split_first_chunk::<16>().map(|(address, names)| ((*address).into(), names))?
            }
            _ => return None,
        };
        let first = names.split(|&byte| byte == 0).next().unwrap_or_default();
        (!first.is_empty()).then_some((address, first))
    })
}

/// The names that a file tells behind its last packet. None if it is no pcapng file, or ends in anything else than
/// names and statistics.
pub(super) fn at_end(file: &File) -> Names {
    let mut names = Names::new();
    // Whatever cannot be read here is read, or told, in its turn.
    let _ = collect(file, &mut names);
    names
}

fn collect(file: &File, names: &mut Names) -> Option<()> {
    let mut head = [0; FRAME];
    file.read_exact_at(&mut head, 0).ok()?;
    let order = order_of(&head[8..]).filter(|_| Order::Big.u32(&head) == block::SHB)?;
    let length = file.metadata().ok()?.len();
    let looked_at = length.min(TAIL);
    let mut tail = vec![0; usize::try_from(looked_at).ok()?];
    file.read_exact_at(&mut tail, length - looked_at).ok()?;
    let mut end = tail.len();
    // From the last block backwards: each has its length at its end too.
    while end >= FRAME {
        let total = order.u32(&tail[end - 4..]) as usize;
        let start = end.checked_sub(total).filter(|_| total >= FRAME && total.is_multiple_of(4))?;
        let (kind, again) = (order.u32(&tail[start..]), order.u32(&tail[start + 4..]) as usize);
        match kind {
            block::NRB if again == total => {
                for (address, name) in records(&tail[start + 8..end - 4], order) {
                    names.insert(address, text(name));
                }
            }
            block::ISB if again == total => {}
            _ => break,
        }
        end = start;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use proptest::prelude::*;

    use super::*;
    use crate::file::{Section, Statistics, Writer};
    use crate::{Interface, LinkType, Packet, Timestamp};

    fn capture(names: &[(&str, &str)]) -> File {
        let file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(file.try_clone().unwrap(), "x", &Section::default());
        let interface = Interface {
            name: "web/eth0".into(),
            description: String::new(),
            link_type: LinkType::ETHERNET,
            snaplen: 0,
            mac: None,
            filter: None,
        };
        writer.interface(&interface).unwrap();
        let packet =
            Packet { time: Timestamp(1), interface: 0, direction: None, original_length: 60, data: &[7; 60] };
        writer.packet(&packet).unwrap();
        writer.names(names.iter().map(|(address, name)| (address.parse().unwrap(), *name))).unwrap();
        writer.statistics(0, &Statistics::default()).unwrap();
        writer.finish().unwrap();
        file
    }

    #[test]
    fn names_behind_the_last_packet_are_known_before_the_first() {
        let names = at_end(&capture(&[("10.0.0.2", "web"), ("fd00::2", "web6")]));
        assert_eq!(names.len(), 2);
        assert_eq!(names[&"10.0.0.2".parse::<IpAddr>().unwrap()], "web");
    }

    proptest! {
        #[test]
        fn an_end_that_lies_is_no_end(cut in 0u64..400, flips in proptest::collection::vec((0usize..400, any::<u8>()), 0..8)) {
            let file = capture(&[("10.0.0.2", "web")]);
            let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
            file.read_exact_at(&mut bytes, 0).unwrap();
            bytes.truncate(bytes.len().saturating_sub(cut as usize));
            for (at, byte) in flips {
                if let Some(place) = bytes.get_mut(at) {
                    *place ^= byte;
                }
            }
            let mut damaged = tempfile::tempfile().unwrap();
            damaged.write_all(&bytes).unwrap();
            damaged.rewind().unwrap();
            at_end(&damaged);
        }
    }
}
