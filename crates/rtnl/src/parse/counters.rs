//! RTM_NEWLINK once more: `IFLA_STATS64`, which holds `struct rtnl_link_stats64` (linux/if_link.h).

use super::Refusal;
use crate::wire::{attributes, take};
use crate::{LinkCounters, WayCounters};

/// The first numbers of the structure: of both ways packets, bytes, errors, and what was dropped.
const NUMBERS: usize = 8;

/// Reads the counters of a link; `None` if the message has none.
pub(crate) fn counters(payload: &[u8]) -> Result<Option<LinkCounters>, Refusal> {
    let (_, rest) = take::<16>(payload, "a link ends within its header")?;
    for attribute in attributes(rest) {
        let attribute = attribute?;
        if attribute.kind != libc::IFLA_STATS64 {
            continue;
        }
        // Newer kernels have more numbers, all of them behind these.
        let (numbers, _) = take::<{ NUMBERS * 8 }>(attribute.payload, "the counters of a link end too soon")?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let [rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped] =
            std::array::from_fn(|number| u64::from_ne_bytes(numbers[number]));
        return Ok(Some(LinkCounters {
            received: WayCounters {
                packets: rx_packets,
                bytes: rx_bytes,
                errors: rx_errors,
                dropped: rx_dropped,
            },
            sent: WayCounters {
                packets: tx_packets,
                bytes: tx_bytes,
                errors: tx_errors,
                dropped: tx_dropped,
            },
        }));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Request, messages};

    /// A message whose counters are so many of the numbers 1, 2, 3, ….
    fn message(count: u64) -> Vec<u8> {
        let mut message = Request::new(libc::RTM_NEWLINK, 0);
        let numbers: Vec<u8> = (1..=count).flat_map(u64::to_ne_bytes).collect();
        message.raw(&[0; 16]).put(libc::IFLA_STATS64, &numbers);
        message.with_sequence(1)
    }

    fn read(count: u64) -> Result<Option<LinkCounters>, Refusal> {
        let bytes = message(count);
        counters(messages(&bytes).next().unwrap().unwrap().payload)
    }

    #[test]
    fn each_number_has_its_place() {
        let received = WayCounters { packets: 1, bytes: 3, errors: 5, dropped: 7 };
        let sent = WayCounters { packets: 2, bytes: 4, errors: 6, dropped: 8 };
        for count in [8, 23, 25] {
            assert_eq!(read(count).unwrap(), Some(LinkCounters { received, sent }), "{count}");
        }
    }

    #[test]
    fn fewer_numbers_are_refused_and_none_are_none() {
        assert!(matches!(read(7), Err(Refusal::Malformed(_))));
        assert_eq!(counters(&[0; 16]).unwrap(), None);
    }
}
