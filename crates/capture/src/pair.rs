//! Two sightings of one packet: at the container's link and at the link's other end.
//!
//! What the container sends is seen first on its own link and then on the host's; what it gets, the other way round.
//! Between the two lie the veth driver and whatever is hooked there (XDP, tc), and the host's queue of packets that
//! have not been looked at yet (`net.core.netdev_max_backlog`). A packet that is seen at the first place and not at the
//! second vanished there; one whose payload comes with another header was rewritten there.

mod fields;

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use foldhash::fast::FixedState;

use crate::{Direction, Packet, Timestamp};
pub use fields::{Change, Field};
use fields::{Header, header};

/// After so long a packet that was not seen again is held for gone.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many packets may wait for their second sighting on one way; then the oldest is given up undecided.
const WAITING: usize = 65_536;
/// As many vanished packets are kept to be shown.
const SAMPLES: usize = 3;

/// Which of a pair's two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the container to the host.
    Out,
    /// From the host to the container.
    In,
}

/// What a packet turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting {
    /// It is of no pair, or of a time when not both ends were watched.
    Unpaired,
    /// The first of two.
    First,
    /// The second, as the first was.
    Same,
    /// The second, with another header.
    Rewritten(Vec<Change>),
    /// It should have been seen at the other end before, and was not.
    FromNowhere,
}

/// What became of the packets of one way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seen at both ends, the same.
    pub same: u64,
    /// Seen at both ends, with another header.
    pub rewritten: u64,
    /// What was rewritten, and in how many packets.
    pub changes: Vec<(Field, u64)>,
    /// Seen at the first end only.
    pub vanished: u64,
    /// Some of those.
    pub samples: Vec<Sample>,
    /// Seen at the second end only.
    pub from_nowhere: u64,
    /// Seen at the first end too shortly before the end of the capture to say.
    pub undecided: u64,
    /// Seen at one end only, while the other end's ring lost packets: it may be one of those.
    pub uncertain: u64,
}

/// A packet that vanished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it was seen at the first end.
    pub time: Timestamp,
    /// How long it was on the link, in bytes.
    pub length: u32,
    /// Its first bytes.
    pub start: Vec<u8>,
}

/// What the end of a capture was like at one end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Until when it was watched.
    pub until: Timestamp,
    /// Packets that its ring lost for want of room.
    pub dropped: u64,
}

/// Matches the sightings of any number of pairs.
#[derive(Debug, Default)]
pub struct Pairs {
    pairs: Vec<Pair>,
    /// For each interface: its pair, and whether it is the container's end.
    by_interface: HashMap<usize, (usize, bool)>,
}

#[derive(Debug)]
struct Pair {
    ends: (usize, usize),
    since: Timestamp,
    ways: [Road; 2],
}

/// The packets under way in one direction.
#[derive(Debug, Default)]
struct Road {
    /// In the order of their first sightings; `None` where the second has come.
    waiting: VecDeque<Option<Waiting>>,
    /// The number of the first of them.
    first: u64,
    /// Where whole packets and payloads of these hashes wait.
    by_bytes: HashMap<u64, VecDeque<u64>, FixedState>,
    by_payload: HashMap<u64, VecDeque<u64>, FixedState>,
    tally: Tally,
}

#[derive(Debug)]
struct Waiting {
    time: Timestamp,
    bytes: u64,
    payload: Option<u64>,
    header: Header,
    length: u32,
    start: Vec<u8>,
}

impl Pairs {
    /// Nothing is paired yet.
    pub fn new() -> Pairs {
        Pairs::default()
    }

    /// The two interfaces are two ends of one link. Both are watched from `since` on; what came before is not judged.
    pub fn add(&mut self, container: usize, host: usize, since: Timestamp) {
        let pair = self.pairs.len();
        self.pairs.push(Pair { ends: (container, host), since, ways: [Road::default(), Road::default()] });
        self.by_interface.insert(container, (pair, true));
        self.by_interface.insert(host, (pair, false));
    }

    /// Looks at a packet. Packets must come in the order of their times.
    pub fn see(&mut self, packet: &Packet<'_>) -> Sighting {
        let Some(&(pair, container)) = self.by_interface.get(&packet.interface) else {
            return Sighting::Unpaired;
        };
        let pair = &mut self.pairs[pair];
        let (way, first) = match (packet.direction, container) {
            (Some(Direction::Outbound), true) => (Way::Out, true),
            (Some(Direction::Inbound), false) => (Way::Out, false),
            (Some(Direction::Outbound), false) => (Way::In, true),
            (Some(Direction::Inbound), true) => (Way::In, false),
            (None, _) => return Sighting::Unpaired,
        };
        if packet.time < pair.since {
            return Sighting::Unpaired;
        }
        let road = &mut pair.ways[way as usize];
        road.give_up_before(packet.time);
        if first {
            road.start(packet);
            Sighting::First
        } else {
            road.arrive(packet)
        }
    }

    /// What became of the packets of each pair (the container's interface, the host's): of those from the container, then
    /// of those to it.
    pub fn finish(self, fate: impl Fn(usize) -> Fate) -> Vec<(usize, usize, [Tally; 2])> {
        let tally = |pair: Pair| {
            let (container, host) = (fate(pair.ends.0), fate(pair.ends.1));
            let end = container.until.min(host.until);
            let [out, back] = pair.ways;
            let out = out.finish(end).doubt(container.dropped, host.dropped);
            let back = back.finish(end).doubt(host.dropped, container.dropped);
            (pair.ends.0, pair.ends.1, [out, back])
        };
        self.pairs.into_iter().map(tally).collect()
    }
}

impl Road {
    fn start(&mut self, packet: &Packet<'_>) {
        if self.waiting.len() == WAITING {
            self.drop_first(|tally, waiting| {
                // It may still come: there is no room to wait for it.
                tally.undecided += 1;
                drop(waiting);
            });
        }
        let header = header(packet.data);
        let waiting = Waiting {
            time: packet.time,
            bytes: hash(packet.data),
            payload: header.payload.map(hash),
            length: packet.original_length,
            start: packet.data[..packet.data.len().min(128)].to_vec(),
            header: header.fields,
        };
        let number = self.first + self.waiting.len() as u64;
        self.by_bytes.entry(waiting.bytes).or_default().push_back(number);
        if let Some(payload) = waiting.payload {
            self.by_payload.entry(payload).or_default().push_back(number);
        }
        self.waiting.push_back(Some(waiting));
    }

    fn arrive(&mut self, packet: &Packet<'_>) -> Sighting {
        let bytes = hash(packet.data);
        if let Some(number) = self.by_bytes.get(&bytes).and_then(|numbers| numbers.front().copied()) {
            self.take(number);
            self.tally.same += 1;
            return Sighting::Same;
        }
        let now = header(packet.data);
        let payload = now.payload.map(hash);
        let number = payload.and_then(|payload| self.by_payload.get(&payload)?.front().copied());
        let Some(before) = number.and_then(|number| self.take(number)) else {
            self.tally.from_nowhere += 1;
            return Sighting::FromNowhere;
        };
        let changes = before.header.changes(&now.fields);
        self.tally.rewritten += 1;
        for change in &changes {
            match self.tally.changes.iter_mut().find(|(field, _)| *field == change.field) {
                Some((_, count)) => *count += 1,
                None => self.tally.changes.push((change.field, 1)),
            }
        }
        Sighting::Rewritten(changes)
    }

    /// Takes a waiting packet out.
    fn take(&mut self, number: u64) -> Option<Waiting> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let waiting = self.waiting.get_mut(at)?.take()?;
        self.forget(number, &waiting);
        while self.waiting.front().is_some_and(Option::is_none) {
            self.waiting.pop_front();
            self.first += 1;
        }
        Some(waiting)
    }

    fn forget(&mut self, number: u64, waiting: &Waiting) {
        strike(&mut self.by_bytes, waiting.bytes, number);
        if let Some(payload) = waiting.payload {
            strike(&mut self.by_payload, payload, number);
        }
    }

    fn drop_first(&mut self, tell: impl FnOnce(&mut Tally, Waiting)) {
        let number = self.first;
        self.first += 1;
        if let Some(waiting) = self.waiting.pop_front().flatten() {
            self.forget(number, &waiting);
            tell(&mut self.tally, waiting);
        }
    }

    fn give_up_before(&mut self, now: Timestamp) {
        let patience = PATIENCE.as_nanos() as u64;
        while let Some(front) = self.waiting.front() {
            if front.as_ref().is_some_and(|waiting| waiting.time.0 + patience >= now.0) {
                break;
            }
            self.drop_first(Tally::vanish);
        }
    }

    fn finish(mut self, end: Timestamp) -> Tally {
        self.give_up_before(end);
        self.tally.undecided += self.waiting.iter().flatten().count() as u64;
        self.tally.changes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        self.tally
    }
}

impl Tally {
    /// Of packets that were seen at one end only as many may have been lost by the other end's ring as it lost at all.
    fn doubt(mut self, dropped_at_first: u64, dropped_at_second: u64) -> Tally {
        let [from_nowhere, vanished] =
            [self.from_nowhere.min(dropped_at_first), self.vanished.min(dropped_at_second)];
        self.from_nowhere -= from_nowhere;
        self.vanished -= vanished;
        self.uncertain = from_nowhere + vanished;
        if self.vanished == 0 {
            self.samples.clear();
        }
        self
    }

    fn vanish(&mut self, waiting: Waiting) {
        self.vanished += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(Sample { time: waiting.time, length: waiting.length, start: waiting.start });
        }
    }
}

fn strike(index: &mut HashMap<u64, VecDeque<u64>, FixedState>, key: u64, number: u64) {
    if let Some(numbers) = index.get_mut(&key) {
        // Nearly always the first: packets arrive in the order in which they were sent.
        if let Some(at) = numbers.iter().position(|waiting| *waiting == number) {
            numbers.remove(at);
        }
        if numbers.is_empty() {
            index.remove(&key);
        }
    }
}

fn hash(of: impl Hash) -> u64 {
    FixedState::default().hash_one(of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CONTAINER: usize = 0;
    const HOST: usize = 1;

    fn udp(id: u16, source: [u8; 4], port: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
        frame.extend_from_slice(&((28 + payload.len()) as u16).to_be_bytes());
        frame.extend_from_slice(&id.to_be_bytes());
        frame.extend_from_slice(&[0x40, 0, 64, 17, 0, 0]);
        frame.extend_from_slice(&source);
        frame.extend_from_slice(&[10, 0, 0, 2]);
        frame.extend_from_slice(&port.to_be_bytes());
        frame.extend_from_slice(&[0, 53]);
        frame.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 0]);
        frame.extend_from_slice(payload);
        frame
    }

    fn at(milliseconds: u64, interface: usize, direction: Direction, data: &[u8]) -> Packet<'_> {
        Packet {
            time: Timestamp(milliseconds * 1_000_000),
            interface,
            direction: Some(direction),
            original_length: data.len() as u32,
            data,
        }
    }

    /// Both ends were watched until then, and nothing was lost.
    fn closed_at(nanoseconds: u64) -> impl Fn(usize) -> Fate {
        move |_| Fate { until: Timestamp(nanoseconds), dropped: 0 }
    }

    fn watched() -> Pairs {
        let mut pairs = Pairs::new();
        pairs.add(CONTAINER, HOST, Timestamp(0));
        pairs
    }

    #[test]
    fn a_packet_that_is_seen_twice_is_the_same() {
        let mut pairs = watched();
        let (query, answer) = (udp(1, [10, 0, 0, 1], 999, b"a?"), udp(7, [10, 0, 0, 9], 53, b"a!"));
        assert_eq!(pairs.see(&at(1, CONTAINER, Direction::Outbound, &query)), Sighting::First);
        assert_eq!(pairs.see(&at(1, HOST, Direction::Inbound, &query)), Sighting::Same);
        assert_eq!(pairs.see(&at(2, HOST, Direction::Outbound, &answer)), Sighting::First);
        assert_eq!(pairs.see(&at(2, CONTAINER, Direction::Inbound, &answer)), Sighting::Same);
        let same = Tally { same: 1, ..Tally::default() };
        assert_eq!(pairs.finish(closed_at(9_000_000_000)), [(CONTAINER, HOST, [same.clone(), same])]);
    }

    #[test]
    fn a_packet_with_another_header_was_rewritten_and_it_is_said_how() {
        let mut pairs = watched();
        pairs.see(&at(1, CONTAINER, Direction::Outbound, &udp(1, [10, 0, 0, 1], 999, b"a?")));
        let sighting = pairs.see(&at(1, HOST, Direction::Inbound, &udp(1, [10, 0, 0, 7], 4000, b"a?")));
        let Sighting::Rewritten(changes) = sighting else { panic!("{sighting:?}") };
        let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(words, ["source address 10.0.0.1 → 10.0.0.7", "source port 999 → 4000"]);
        let [(_, _, [out, _])] = pairs.finish(closed_at(1)).try_into().unwrap();
        assert_eq!(out.changes, [(Field::SourceAddress, 1), (Field::SourcePort, 1)]);
    }

    #[test]
    fn what_is_not_seen_again_vanished_unless_the_capture_ended() {
        let mut pairs = watched();
        let (lost, late) = (udp(1, [10, 0, 0, 1], 999, b"lost"), udp(2, [10, 0, 0, 1], 999, b"late"));
        pairs.see(&at(1, CONTAINER, Direction::Outbound, &lost));
        pairs.see(&at(5000, CONTAINER, Direction::Outbound, &late));
        let [(_, _, [out, _])] = pairs.finish(closed_at(5_000_000_001)).try_into().unwrap();
        assert_eq!((out.vanished, out.undecided), (1, 1));
        let sample = Sample { time: Timestamp(1_000_000), length: lost.len() as u32, start: lost };
        assert_eq!(out.samples, [sample]);
    }

    #[test]
    fn what_a_full_ring_may_have_lost_is_not_called_vanished() {
        let mut pairs = watched();
        for number in 0..5 {
            let frame = udp(number, [10, 0, 0, 1], 999, &[number as u8]);
            pairs.see(&at(1, CONTAINER, Direction::Outbound, &frame));
        }
        pairs.see(&at(2, HOST, Direction::Inbound, &udp(9, [10, 0, 0, 1], 999, b"alone")));
        // The host's end lost three, of which any of the five may be; the container's none.
        let fate = |end| Fate { until: Timestamp(5_000_000_000), dropped: if end == HOST { 3 } else { 0 } };
        let [(_, _, [out, _])] = pairs.finish(fate).try_into().unwrap();
        assert_eq!((out.vanished, out.uncertain, out.from_nowhere), (2, 3, 1));
    }

    #[test]
    fn a_pair_is_judged_until_the_first_of_its_own_ends_was_closed() {
        let mut pairs = watched();
        pairs.see(&at(5000, CONTAINER, Direction::Outbound, &udp(1, [10, 0, 0, 1], 999, b"late")));
        let until = |end| Timestamp(if end == HOST { 5_000_000_001 } else { 90_000_000_000 });
        let [(_, _, [out, _])] =
            pairs.finish(|end| Fate { until: until(end), dropped: 0 }).try_into().unwrap();
        assert_eq!((out.vanished, out.undecided), (0, 1));
    }

    #[test]
    fn what_came_while_only_one_end_was_watched_is_not_judged() {
        let mut pairs = Pairs::new();
        pairs.add(CONTAINER, HOST, Timestamp(5_000_000));
        let frame = udp(1, [10, 0, 0, 1], 999, b"early");
        assert_eq!(pairs.see(&at(1, HOST, Direction::Inbound, &frame)), Sighting::Unpaired);
        assert_eq!(pairs.see(&at(6, HOST, Direction::Inbound, &frame)), Sighting::FromNowhere);
    }

    proptest! {
        /// Whatever is sent, with as many twins as there may be: every packet is counted once.
        #[test]
        fn every_packet_is_counted_once(
            sent in proptest::collection::vec((0u8..4, any::<bool>()), 0..200),
        ) {
            let mut pairs = watched();
            let mut arrived = 0;
            for (time, (kind, arrives)) in sent.iter().enumerate() {
                let frame = udp(u16::from(*kind), [10, 0, 0, 1], 999, &[*kind]);
                pairs.see(&at(time as u64 * 400, CONTAINER, Direction::Outbound, &frame));
                if *arrives {
                    arrived += 1;
                    prop_assert_eq!(pairs.see(&at(time as u64 * 400 + 1, HOST, Direction::Inbound, &frame)), Sighting::Same);
                }
            }
            let [(_, _, [out, back])] = pairs.finish(closed_at(u64::MAX / 2)).try_into().unwrap();
            prop_assert_eq!((out.same, out.vanished), (arrived, sent.len() as u64 - arrived));
            prop_assert_eq!((out.undecided, back), (0, Tally::default()));
        }

        #[test]
        fn no_bytes_are_too_strange(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..40)) {
            let mut pairs = watched();
            for (time, frame) in frames.iter().enumerate() {
                let (place, direction) = if frame.len() % 2 == 0 { (CONTAINER, Direction::Outbound) } else { (HOST, Direction::Inbound) };
                pairs.see(&at(time as u64, place, direction, frame));
            }
        }
    }
}
