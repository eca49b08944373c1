//! The flight recorder: the packets of the last seconds, in memory, until something makes them worth keeping.
//!
//! Packets are laid one after the other into chunks, each behind a header of fixed size, so that what is counted is all
//! the memory that there is. A chunk goes when the youngest packet in it is older than the window, or when the memory is
//! used up. Chunks are used again: a first touch of memory costs more than the copy.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Direction, Packet, Timestamp};

/// Bytes of a chunk; a packet larger than that gets a chunk of its own size.
const CHUNK: usize = 1 << 20;
/// Time, original length, kept length, interface and direction, in this order.
const HEADER: usize = 8 + 4 + 4 + 4 + 1;

/// The packets of the last while.
#[derive(Debug)]
pub struct Recorder {
    window: Duration,
    /// Bytes that may be held.
    capacity: usize,
    held: usize,
    chunks: VecDeque<Chunk>,
    spare: Option<Vec<u8>>,
    newest: Timestamp,
    /// The time of the youngest packet that went for want of memory while still inside the window.
    crowded_out: Option<Timestamp>,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    youngest: Timestamp,
}

impl Recorder {
    /// A recorder of the packets of the last `window`, in at most `capacity` bytes of them (one chunk at least).
    pub fn new(window: Duration, capacity: usize) -> Recorder {
        Recorder {
            window,
            capacity,
            held: 0,
            chunks: VecDeque::new(),
            spare: None,
            newest: Timestamp(0),
            crowded_out: None,
        }
    }

    /// Keeps a copy of a packet, and lets go of what is too old.
    pub fn push(&mut self, packet: &Packet<'_>) {
        self.newest = self.newest.max(packet.time);
        let size = HEADER + packet.data.len();
        let fits = self.chunks.back().is_some_and(|chunk| chunk.bytes.capacity() - chunk.bytes.len() >= size);
        if !fits {
            self.forget_old();
            self.add_chunk(size.max(CHUNK));
        }
        // A chunk with room was there or was added just now.
        let Some(chunk) = self.chunks.back_mut() else { return };
        chunk.youngest = chunk.youngest.max(packet.time);
        chunk.append(packet);
    }

    /// The packets of the window that ends with the newest of them, in the order they came.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let since = self.since();
        self.chunks.iter().flat_map(Chunk::packets).filter(move |packet| packet.time >= since)
    }

    /// How much of the window is held, if memory did not suffice for the whole of it.
    pub fn shortened_to(&self) -> Option<Duration> {
        let lost = self.crowded_out.filter(|lost| *lost >= self.since())?;
        Some(Duration::from_nanos(self.newest.0 - lost.0))
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        *self = Recorder::new(self.window, self.capacity);
    }

    fn since(&self) -> Timestamp {
        let window = u64::try_from(self.window.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(self.newest.0.saturating_sub(window))
    }

    fn forget_old(&mut self) {
        let since = self.since();
        while self.chunks.front().is_some_and(|chunk| chunk.youngest < since) {
            self.drop_oldest();
        }
    }

    fn add_chunk(&mut self, size: usize) {
        while self.held + size > self.capacity
            && let Some(oldest) = self.chunks.front()
        {
            self.crowded_out = self.crowded_out.max(Some(oldest.youngest));
            self.drop_oldest();
        }
        let bytes = self.spare.take().filter(|spare| spare.capacity() >= size);
        let bytes = bytes.unwrap_or_else(|| Vec::with_capacity(size));
        self.held += bytes.capacity();
        self.chunks.push_back(Chunk { bytes, youngest: Timestamp(0) });
    }

    fn drop_oldest(&mut self) {
        if let Some(Chunk { mut bytes, .. }) = self.chunks.pop_front() {
            self.held -= bytes.capacity();
            bytes.clear();
            self.spare = Some(bytes);
        }
    }
}

impl Chunk {
    fn append(&mut self, packet: &Packet<'_>) {
        // Neither a packet nor a list of interfaces has four thousand million of anything.
        let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        self.bytes.extend_from_slice(&packet.time.0.to_le_bytes());
        self.bytes.extend_from_slice(&packet.original_length.to_le_bytes());
        self.bytes.extend_from_slice(&word(packet.data.len()));
        self.bytes.extend_from_slice(&word(packet.interface));
        self.bytes.push(match packet.direction {
            None => 0,
            Some(Direction::Inbound) => 1,
            Some(Direction::Outbound) => 2,
        });
        self.bytes.extend_from_slice(packet.data);
    }

    fn packets(&self) -> impl Iterator<Item = Packet<'_>> {
        let mut rest = self.bytes.as_slice();
        std::iter::from_fn(move || {
            let time = u64::from_le_bytes(take(&mut rest)?);
            let [original_length, length, interface] =
                [0; 3].map(|_: u32| take(&mut rest).map(u32::from_le_bytes));
            let [direction] = take(&mut rest)?;
            let (data, after) = rest.split_at_checked(length? as usize)?;
            rest = after;
            Some(Packet {
                time: Timestamp(time),
                interface: interface? as usize,
                direction: match direction {
                    1 => Some(Direction::Inbound),
                    2 => Some(Direction::Outbound),
                    _ => None,
                },
                original_length: original_length?,
                data,
            })
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(second: u64, data: &[u8]) -> Packet<'_> {
        Packet {
            time: Timestamp(second * 1_000_000_000),
            interface: 0,
            direction: Some(Direction::Inbound),
            original_length: data.len() as u32,
            data,
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_gone() {
        let mut recorder = Recorder::new(Duration::from_secs(10), 64 << 20);
        for second in 0..100 {
            recorder.push(&packet(second, &second.to_le_bytes()));
        }
        let seconds: Vec<u64> = recorder.packets().map(|packet| packet.time.seconds()).collect();
        assert_eq!(seconds, (89..100).collect::<Vec<_>>());
        assert_eq!(recorder.shortened_to(), None);
    }

    #[test]
    fn memory_is_bounded_and_a_shortened_window_is_told() {
        let mut recorder = Recorder::new(Duration::from_secs(60), 3 * CHUNK);
        let data = vec![7; CHUNK / 2];
        for second in 0..40 {
            recorder.push(&packet(second, &data));
            assert!(recorder.held <= 3 * CHUNK);
        }
        let seconds: Vec<u64> = recorder.packets().map(|packet| packet.time.seconds()).collect();
        assert_eq!(seconds, (37..40).collect::<Vec<_>>());
        assert_eq!(recorder.shortened_to(), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_packet_larger_than_a_chunk_is_kept_whole() {
        let mut recorder = Recorder::new(Duration::from_secs(60), CHUNK);
        let data = vec![9; CHUNK + 1];
        recorder.push(&packet(1, &data));
        assert_eq!(recorder.packets().next().map(|packet| packet.data.len()), Some(CHUNK + 1));
    }

    proptest! {
        #[test]
        fn the_newest_packets_come_back_as_they_were(
            packets in proptest::collection::vec((0u64..5, 0usize..300_000), 1..40),
        ) {
            let packets: Vec<_> =
                packets.iter().enumerate().map(|(at, (step, length))| (*step, vec![at as u8; *length])).collect();
            let mut recorder = Recorder::new(Duration::from_secs(20), 4 * CHUNK);
            let mut second = 0;
            let mut all = Vec::new();
            for (step, data) in &packets {
                second += step;
                recorder.push(&packet(second, data));
                all.push((second, data.as_slice()));
            }
            let held: Vec<_> = recorder.packets().map(|p| (p.time.seconds(), p.data)).collect();
            let tail = &all[all.len() - held.len()..];
            prop_assert_eq!(&held[..], tail);
            let in_window = all.iter().filter(|(s, _)| s + 20 >= second).count();
            prop_assert!(held.len() == in_window || recorder.shortened_to().is_some());
        }
    }
}
