//! One ring of a session: which of its blocks are the reader's, and how far it is behind.

use std::collections::VecDeque;

use super::block::Cursor;
use super::mapping::Closed;
use super::ring::Ring;
use super::session::RingId;
use super::{Ledger, Result};
use crate::Packet;

/// A time stamp may have been taken so long before the packet reached the ring: where another socket of the machine has
/// time stamps on, they are taken before the packet waits for its processor (net/core/dev.c, `netif_rx`).
pub(super) const SLACK: u64 = 1_000_000;

/// A ring that is alone hands out so many packets at a time, which with the blocks made of them stay in a processor's
/// cache.
const SOME: u32 = 1024;
/// So many of them are kept back, in case what follows is older: packets that several processors put in at the same time
/// are in no order.
const KEPT_BACK: usize = 64;

/// One ring and what has been seen of it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) ring: Ring,
    /// The oldest block that was not given back.
    base: usize,
    /// The first that is not wholly handed out; `base..open` are lent in the current batch.
    open: usize,
    /// Blocks that the kernel has handed over, `open..open + closed.len()`.
    pub(super) closed: VecDeque<Closed>,
    /// How far block `open` has been read, if that was begun.
    cursor: Option<Cursor>,
    /// The packets of it that were read; those before `at` have been handed out.
    parsed: Vec<Packet<'static>>,
    at: usize,
    /// No packet in blocks that were not handed over yet is older.
    pub(super) bound: u64,
    /// When it was seen to be down: packets of before may still come.
    pub(super) down: Option<u64>,
    /// Told to stop, or its link is gone: it goes when the last packet has been handed out.
    pub(super) stopping: bool,
}

impl Member {
    /// Whether its link was set down, and may come back.
    pub(super) fn is_down(&self) -> bool {
        self.down.is_some() && !self.stopping
    }

    pub(super) fn new(ring: Ring) -> Member {
        Member {
            ring,
            base: 0,
            open: 0,
            closed: VecDeque::new(),
            cursor: None,
            parsed: Vec::new(),
            at: 0,
            bound: 0,
            down: None,
            stopping: false,
        }
    }

    /// Looks which blocks the kernel has handed over.
    pub(super) fn scan(&mut self) {
        loop {
            let number = self.open + self.closed.len();
            // Beyond that are blocks that were not given back yet.
            if number >= self.base + self.ring.blocks() {
                return;
            }
            let Some(closed) = self.ring.closed(number) else { return };
            self.bound = self.bound.max(closed.last);
            self.closed.push_back(closed);
        }
    }

    /// Looks whether there is really nothing that others would have to wait for; `now`: a clock read before.
    pub(super) fn look(&mut self, now: u64) {
        if self.ring.still_empty(self.open + self.closed.len()) {
            self.bound = self.bound.max(now.saturating_sub(SLACK));
        } else {
            self.scan();
        }
    }

    /// Whether it will soon be full.
    pub(super) fn pressed(&self) -> bool {
        let (waiting, blocks) = (self.closed.len(), self.ring.blocks());
        waiting * 2 > blocks || waiting + 1 >= blocks
    }

    /// Hands out what is not newer of the first block; whether that was all of it.
    pub(super) fn hand_out_block(
        &mut self,
        id: RingId,
        newest: u64,
        into: &mut Vec<Packet<'static>>,
    ) -> bool {
        let Some(closed) = self.closed.front().copied() else { return false };
        // Then all of it is handed out. Where several processors put packets in, the last of a block need not be its newest:
        // those that are newer would be waited for in vain, since there is nothing behind them.
        let whole = closed.last <= newest;
        if self.cursor.is_none() {
            if whole {
                self.read(id, closed, u32::MAX, into);
                self.turn_over();
                return true;
            }
            if self.ring.first_time(self.open, closed).is_some_and(|first| first > newest) {
                return false;
            }
        }
        if self.cursor.is_none_or(|cursor| !cursor.is_at_end()) {
            let mut parsed = std::mem::take(&mut self.parsed);
            self.read(id, closed, u32::MAX, &mut parsed);
            self.parsed = parsed;
        }
        let rest = &self.parsed[self.at..];
        let count = if whole { rest.len() } else { rest.partition_point(|packet| packet.time.0 <= newest) };
        into.extend_from_slice(&rest[..count]);
        self.at += count;
        if self.at < self.parsed.len() {
            return false;
        }
        self.turn_over();
        true
    }

    /// Hands out some of the first block, or all that is left of it. `into` is empty.
    pub(super) fn hand_out_some(&mut self, id: RingId, into: &mut Vec<Packet<'static>>) {
        let Some(closed) = self.closed.front().copied() else { return };
        into.extend(self.parsed.drain(..).skip(self.at));
        self.at = 0;
        let cursor = self.read(id, closed, SOME, into);
        if cursor.is_at_end() {
            self.turn_over();
        } else {
            self.parsed.extend(into.drain(into.len().saturating_sub(KEPT_BACK)..));
        }
    }

    /// Reads on in the first block.
    fn read(&mut self, id: RingId, closed: Closed, most: u32, into: &mut Vec<Packet<'static>>) -> Cursor {
        let mut cursor = self.cursor.unwrap_or_else(|| Cursor::new(closed));
        // SAFETY: the cursor was made of what this block says, and goes when the block is turned over. The block is given
        // back only after that, before the next batch is made, when its packets are neither in the batch nor in `parsed`.
        unsafe { self.ring.read(self.open, &mut cursor, most, id, into) };
        self.cursor = Some(cursor);
        cursor
    }

    /// All of the first block has been handed out.
    fn turn_over(&mut self) {
        self.cursor = None;
        self.parsed.clear();
        self.at = 0;
        if self.closed.pop_front().is_some_and(|closed| closed.losing) {
            self.ring.losing();
        }
        self.open += 1;
    }

    pub(super) fn give_back(&mut self) {
        while self.base < self.open {
            self.ring.release(self.base);
            self.base += 1;
        }
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        self.stopping = true;
        self.ring.stop()
    }

    pub(super) fn drained(&self) -> bool {
        self.stopping && self.closed.is_empty() && self.ring.still_empty(self.open)
    }

    /// The ring's account, without the packets that were read but not handed out.
    pub(super) fn ledger(&mut self) -> Result<Ledger> {
        let mut ledger = self.ring.ledger()?;
        let kept = &self.parsed[self.at.min(self.parsed.len())..];
        ledger.delivered -= kept.len() as u64;
        ledger.bytes -= kept.iter().map(|packet| packet.data.len() as u64).sum::<u64>();
        Ok(ledger)
    }
}

#[cfg(test)]
mod tests {
    use snorkel_netns::Netns;

    use super::*;
    use crate::Timestamp;
    use crate::ring::{Link, Settings};

    #[test]
    fn a_block_goes_with_its_last_packet_though_that_is_not_its_newest() {
        let netns = Netns::private().expect("this test needs root");
        let settings = Settings { bytes: 1 << 20, ..Settings::default() };
        let mut member = Member::new(Ring::open(&netns, Link::Name("lo"), &settings).unwrap());
        let closed = Closed { packets: 0, first: 0, last: 100, full: true, losing: false };
        let packet = |time| Packet {
            time: Timestamp(time),
            interface: 0,
            direction: None,
            original_length: 0,
            data: &[],
        };
        // It has been read, and some of it was handed out for the sake of other rings.
        member.closed.push_back(closed);
        member.cursor = Some(Cursor::new(closed));
        member.parsed = vec![packet(90), packet(100), packet(105)];
        let mut batch = Vec::new();
        assert!(!member.hand_out_block(0, 95, &mut batch));
        assert_eq!(batch.len(), 1);
        // Its last is what the others can be waited for at most.
        assert!(member.hand_out_block(0, 100, &mut batch));
        assert_eq!(batch.len(), 3);
        assert!(member.closed.is_empty());
    }
}
