//! Every parser at once, for a fuzz target: bytes as a datagram, as a message's payload, and as control messages.

use crate::exchange::{Dump, answer};
use crate::name::{escape, unescape};
use crate::parse::{
    address, control, counters, event, filter, link, neighbour, nsid, qdisc, route, v6_only, waiting,
};
use crate::queue::held;
use crate::wire::{Verdict, messages};
use crate::{Family, FilterSide, IfIndex, NsId};

/// Feeds bytes to every parser, as if the kernel had sent them. Must neither panic nor hang.
pub fn fuzz_decode(bytes: &[u8]) {
    let _ = control(bytes);
    payload(bytes);
    // A few suffice: what follows takes in the whole datagram for each.
    for message in messages(bytes).flatten().take(8) {
        let _ = event(&message, None);
        let _ = (Verdict::of_error(&message), Verdict::of_done(&message));
        payload(message.payload);
        let mut dump = Dump::new(message.sequence, message.kind, |payload| link(payload, None));
        let _ = dump.feed(bytes);
        let _ = answer(bytes, message.sequence, Some(message.kind));
    }
    let _ = unescape(&escape(bytes));
}

fn payload(payload: &[u8]) {
    for asked in [None, Some(NsId::new(0))] {
        let _ = link(payload, asked);
        let _ = address(payload, asked);
    }
    let _ = route(payload, Family::Inet);
    let _ = route(payload, Family::Inet6);
    let _ = neighbour(payload);
    let _ = nsid(payload);
    let _ = counters(payload);
    let _ = v6_only(payload);
    let _ = qdisc(payload);
    // The link that the message itself names, so that the rest is read.
    let named = payload.get(4..8).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_ne_bytes);
    if let Some(link) = named.and_then(IfIndex::new) {
        let _ = FilterSide::ALL.map(|side| filter(payload, link, side));
    }
    let _ = waiting(payload);
    let _ = held(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            fuzz_decode(&bytes);
        }
    }
}
