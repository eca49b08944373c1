//! RTM_NEWQDISC of a netem: `struct tcmsg` and `TCA_*` (linux/rtnetlink.h), statistics of linux/gen_stats.h.

use super::{Refusal, index};
use crate::netem::Netem;
use crate::qdisc::{AttachedNetem, QdiscStatistics};
use crate::wire::{Malformed, attributes, take};

const TCA_STATS2: u16 = 7;
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;

/// Reads a netem; `None` for a qdisc of another kind.
pub(crate) fn netem(payload: &[u8]) -> Result<Option<AttachedNetem>, Refusal> {
    let (fixed, rest) = take::<20>(payload, "a qdisc ends within its header")?;
    let number = |at: usize| u32::from_ne_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let mut is_netem = false;
    let mut options = None;
    let mut statistics = QdiscStatistics::default();
    for attribute in attributes(rest) {
        let attribute = attribute?;
        match attribute.kind {
            libc::TCA_KIND => is_netem = attribute.text() == b"netem",
            libc::TCA_OPTIONS => options = Some(attribute.payload),
            TCA_STATS2 => {
                for inner in attribute.nested() {
                    let inner = inner?;
                    count(inner.kind, inner.payload, &mut statistics)?;
                }
            }
            _ => (),
        }
    }
    let Some(options) = options.filter(|_| is_netem) else { return Ok(None) };
    let link = index(number(4))?;
    Ok(Some(AttachedNetem { link, parent: number(12), options: Netem::parse(options)?, statistics }))
}

fn count(kind: u16, bytes: &[u8], into: &mut QdiscStatistics) -> Result<(), Malformed> {
    const SHORT: &str = "statistics of a qdisc end within a structure";
    match kind {
        TCA_STATS_BASIC => {
            let (amount, rest) = take::<8>(bytes, SHORT)?;
            let (packets, _) = take::<4>(rest, SHORT)?;
            into.bytes = u64::from_ne_bytes(amount);
            into.packets = into.packets.max(u64::from(u32::from_ne_bytes(packets)));
        }
        TCA_STATS_PKT64 => into.packets = u64::from_ne_bytes(take::<8>(bytes, SHORT)?.0),
        TCA_STATS_QUEUE => {
            let (fixed, _) = take::<12>(bytes, SHORT)?;
            let [a, b, c, d, e, f, g, h, i, j, k, l] = fixed;
            into.waiting = u32::from_ne_bytes([a, b, c, d]);
            into.backlog = u32::from_ne_bytes([e, f, g, h]);
            into.drops = u32::from_ne_bytes([i, j, k, l]);
        }
        _ => (),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;
    use proptest::prelude::*;

    #[test]
    fn place_options_and_statistics_are_read_of_a_netem_alone() {
        let options = Netem { limit: 7, ..Netem::default() };
        let mut message = Request::new(0, 0);
        let header: Vec<u8> =
            [0u32, 3, 0x8001_0000, u32::MAX, 1].into_iter().flat_map(u32::to_ne_bytes).collect();
        message.raw(&header).put_text(libc::TCA_KIND, b"netem");
        message.nest(libc::TCA_OPTIONS, |value| options.put(value));
        message.nest(TCA_STATS2, |statistics| {
            statistics.put(TCA_STATS_BASIC, &[&1500u64.to_ne_bytes()[..], &2u32.to_ne_bytes()].concat());
            let queue: Vec<u8> = [4u32, 6000, 5, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
            statistics.put(TCA_STATS_QUEUE, &queue);
        });
        let bytes = message.with_sequence(1);
        let read = netem(&bytes[16..]).unwrap().unwrap();
        assert_eq!((read.link.get(), read.parent, read.options), (3, u32::MAX, options));
        let other = bytes.windows(5).position(|word| word == b"netem").unwrap();
        let mut bytes = bytes;
        bytes[other] = b'N';
        assert_eq!(netem(&bytes[16..]), Ok(None));
        let wanted = QdiscStatistics { bytes: 1500, packets: 2, waiting: 4, backlog: 6000, drops: 5 };
        assert_eq!(read.statistics, wanted);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = netem(&bytes);
        }
    }
}
