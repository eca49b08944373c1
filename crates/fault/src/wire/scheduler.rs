//! snorkel's own queue in a wire's private end, where the kernel has no netem.
//!
//! It reads packets from a ring, asks [`Emulation`] what becomes of them, and sends each when it is due. A packet's delay
//! counts from the moment at which the kernel put it into the ring, so that being read late adds nothing. One that is due
//! at once goes from the ring's memory to the link, in a batch with those beside it; one that has to wait is copied once.
//!
//! As long as packets keep coming, the thread is not woken for each: those that come while it pauses are due after the pause
//! at the earliest. Waking it costs whoever sends more than the packet does.

use std::time::Duration;

use super::clock::Clock;
use super::counts::{Counts, Detail};
use super::sender::{BATCH, Sender};
use super::socket::{Frame, Ring};
use super::store::{Kept, Store};
use super::worker::{Next, Work};
use crate::emulation::{Copy, Emulation, Moment, Packet, TimeQueue};

/// The queue of one wire.
pub(super) struct Scheduler {
    ring: Ring,
    sender: Sender,
    emulation: Emulation,
    line: Line,
    counts: Counts,
    /// When the last packet came.
    newest: Moment,
    /// How long a packet that comes now can be left alone.
    leisure: Duration,
    /// How many packets the last turn read.
    lately: usize,
}

/// The longest pause: what fits into the ring meanwhile is four million packets per second.
const LONGEST: Duration = Duration::from_millis(1);
/// The pause where packets are due at once, taken only where they come in such numbers: less than a thread takes to wake.
const SHORTEST: Duration = Duration::from_micros(30);
const MANY: usize = 16;

/// Packets that wait, and where.
struct Line {
    queue: TimeQueue<Kept>,
    store: Store,
}

/// A packet that is to be sent now.
enum Leaving<'a> {
    /// It lies in the ring.
    There(&'a [u8]),
    /// It has waited.
    Waited(Kept),
}

impl Scheduler {
    pub(super) fn new(ring: Ring, sender: Sender, emulation: Emulation) -> Scheduler {
        let store = Store::new(emulation.limit() as usize + BATCH);
        let line = Line { queue: TimeQueue::default(), store };
        let counts = Counts { detail: Some(Detail::default()), ..Counts::default() };
        let leisure = (emulation.least_delay() / 2).min(LONGEST);
        Scheduler { ring, sender, emulation, line, counts, newest: Moment(0), leisure, lately: 0 }
    }
}

impl Work for Scheduler {
    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn turn(&mut self) -> Next {
        let mut clock = Clock::read();
        let mut detail = self.counts.detail.unwrap_or_default();
        let mut leaving = Vec::with_capacity(BATCH);
        while leaving.len() < BATCH
            && let Some(kept) = self.line.queue.pop_due(clock.now)
        {
            leaving.push(Leaving::Waited(kept));
        }
        let mut read = 0;
        let mut losing = false;
        // Each packet has two copies at most.
        let room = (BATCH - leaving.len()) / 2;
        for frame in self.ring.arrived(room) {
            read += 1;
            losing |= frame.is_losing();
            detail.arrived += 1;
            self.newest = clock.arrival(frame.time, self.newest);
            let arrival = Arrival { at: self.newest, now: clock.now };
            arrival.take(frame, &mut self.emulation, &mut self.line, &mut leaving, &mut detail);
        }
        let packets: Vec<&[u8]> = leaving
            .iter()
            .map(|packet| match packet {
                Leaving::There(there) => there,
                Leaving::Waited(kept) => self.line.store.bytes(kept),
            })
            .collect();
        let bytes: usize = packets.iter().map(|packet| packet.len()).sum();
        let refused = if packets.is_empty() { 0 } else { self.sender.send(&packets) };
        let worked = read > 0 || !leaving.is_empty();
        self.counts.sent += leaving.len() as u64 - refused;
        self.counts.bytes += bytes as u64;
        for packet in leaving {
            if let Leaving::Waited(kept) = packet {
                self.line.store.free(kept);
            }
        }
        self.ring.release(read);
        if losing {
            let dropped = self.ring.take_dropped();
            detail.arrived += dropped;
            detail.no_room += dropped;
        }
        detail.refused += refused;
        self.counts.waiting = self.line.queue.len() as u64;
        self.counts.detail = Some(detail);
        let lately = std::mem::replace(&mut self.lately, read);
        if worked {
            self.lately = lately.max(read);
            return Next::Again;
        }
        let due = self.line.queue.next_due().map(|due| due.since(clock.now));
        let pause = match lately {
            0 => Duration::ZERO,
            MANY.. => self.leisure.max(SHORTEST),
            _ => self.leisure,
        };
        match due {
            _ if pause.is_zero() => Next::Listen(due),
            Some(due) => Next::Pause(due.min(pause)),
            None => Next::Pause(pause),
        }
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }

    fn rest(&mut self) {
        let dropped = self.ring.take_dropped();
        if let Some(detail) = &mut self.counts.detail {
            detail.arrived += dropped;
            detail.no_room += dropped;
        }
    }
}

/// A packet's arrival.
struct Arrival {
    at: Moment,
    now: Moment,
}

impl Arrival {
    /// Finds a packet's fate, and puts its copies where they belong.
    fn take<'a>(
        &self,
        frame: Frame<'a>,
        emulation: &mut Emulation,
        line: &mut Line,
        leaving: &mut Vec<Leaving<'a>>,
        detail: &mut Detail,
    ) {
        let large = frame.take_large();
        let mut there = match (&large, frame.into_bytes()) {
            (Some(_), _) => None,
            (None, Some(bytes)) => Some(bytes),
            // It did not fit its frame, and nothing could keep it.
            (None, None) => {
                detail.no_room += 1;
                return;
            }
        };
        let length = large.as_ref().map_or(there.as_ref().map_or(0, |bytes| bytes.len()), Vec::len);
        let packet = Packet { arrival: self.at, length: length as u32 };
        let fate = emulation.arrive(packet, line.queue.len());
        detail.lost += u64::from(fate.lost);
        detail.no_room += u64::from(fate.no_room);
        detail.duplicated += u64::from(fate.duplicated);
        let alone = fate.copies[1].is_none();
        for copy in fate.copies.into_iter().flatten() {
            detail.corrupted += u64::from(copy.corrupted.is_some());
            detail.reordered += u64::from(copy.overtakes);
            // Only what is due before all that wait may go before them.
            let at_once = copy.due <= self.now && line.queue.next_due().is_none_or(|next| next > copy.due);
            if at_once
                && alone
                && let Some(bytes) = there.take()
            {
                if let Some(bit) = copy.corrupted {
                    turn(bytes, bit);
                }
                leaving.push(Leaving::There(bytes));
                continue;
            }
            let bytes = large.as_deref().or(there.as_deref()).unwrap_or_default();
            let Some(mut kept) = line.store.keep(bytes) else {
                detail.no_room += 1;
                continue;
            };
            if let Some(bit) = copy.corrupted {
                turn(line.store.bytes_mut(&mut kept), bit);
            }
            line.place(copy, kept);
        }
    }
}

impl Line {
    fn place(&mut self, copy: Copy, kept: Kept) {
        if copy.overtakes {
            self.queue.push_front(kept);
        } else {
            self.queue.push(copy.due, kept);
        }
    }
}

/// Turns one bit.
fn turn(bytes: &mut [u8], bit: u32) {
    if let Some(byte) = bytes.get_mut(bit as usize / 8) {
        *byte ^= 1 << (bit % 8);
    }
}
