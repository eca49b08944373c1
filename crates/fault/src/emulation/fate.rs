//! What becomes of a packet.
//!
//! netem's order: whether there is a second copy; whether the packet is lost; whether a bit of it is turned; whether
//! there is room. Then the second copy goes through all of it itself (but has no copy of its own). Then whether the packet
//! overtakes the others; and if not, how long it is delayed. A packet of which one copy is made and one lost is neither
//! doubled nor lost.
//!
//! Two of netem's peculiarities are kept, since they belong to what a seed and a parameter mean: a draw that depends on the
//! one before is their mean by weight, so that it strays less than a free one, and what is rare becomes rarer; and a delay
//! is picked by the remainder of the draw, so that a correlation hardly shows in delays.

use std::time::Duration;

use super::prng::{Prng, aside};
use super::{Moment, distribution};
use crate::impairment::{Chance, Impairment, Likely, Loss};

/// A packet that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When.
    pub arrival: Moment,
    /// Bytes, with the Ethernet header.
    pub length: u32,
}

/// A packet, or its second copy, that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// When it is to leave; may lie before its arrival, which is at once.
    pub due: Moment,
    /// Which bit is to be turned: byte × 8 + bit.
    pub corrupted: Option<u32>,
    /// It goes before all that wait.
    pub overtakes: bool,
}

/// What becomes of a packet: `arrived + duplicated = copies + lost + no_room`, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// In the order in which they are queued.
    pub copies: [Option<Copy>; 2],
    /// How many of it were lost by chance.
    pub lost: u8,
    /// How many of it found the queue full.
    pub no_room: u8,
    /// It had a second copy.
    pub duplicated: bool,
}

/// What an entry of a table is that stands for the jitter itself (`NETEM_DIST_SCALE`).
const SCALE: i64 = 8192;

/// An impairment at work on one row of packets.
#[derive(Clone, Debug)]
pub struct Emulation {
    delay: i64,
    jitter: i64,
    table: Option<Vec<i16>>,
    rate: Option<u64>,
    limit: u32,
    loss: LossModel,
    duplicate: Draw,
    corrupt: Draw,
    reorder: Option<(u32, Draw)>,
    spread: Correlated,
    chance: Prng,
    bits: Prng,
    /// How many were delayed since one overtook.
    since_overtaking: u32,
    /// When the last of all that were sent so far leaves.
    last: Moment,
}

/// Loss and its state.
#[derive(Clone, Copy, Debug)]
enum LossModel {
    Random(Draw),
    Gemodel { to_bad: u32, to_good: u32, kept_in_bad: u32, lost_in_good: u32, bad: bool },
}

/// Draws that depend on the one before.
#[derive(Clone, Copy, Debug)]
struct Correlated {
    correlation: u32,
    before: u32,
}

/// A decision by chance.
#[derive(Clone, Copy, Debug)]
struct Draw {
    chance: u32,
    from: Correlated,
}

impl Correlated {
    fn new(correlation: Chance, seed: u64, which: u64) -> Correlated {
        Correlated { correlation: correlation.scaled(), before: aside(seed, which) as u32 }
    }

    fn draw(&mut self, prng: &mut Prng) -> u32 {
        let fresh = prng.draw();
        if self.correlation == 0 {
            return fresh;
        }
        let weight = u64::from(self.correlation) + 1;
        let mixed = (u64::from(fresh) * ((1 << 32) - weight) + u64::from(self.before) * weight) >> 32;
        // A mean of two numbers of 32 bits.
        self.before = mixed as u32;
        self.before
    }
}

impl Draw {
    fn new(likely: Likely, seed: u64, which: u64) -> Draw {
        Draw { chance: likely.chance.scaled(), from: Correlated::new(likely.correlation, seed, which) }
    }

    /// Nothing is drawn for what never happens.
    fn happens(&mut self, prng: &mut Prng) -> bool {
        self.chance != 0 && self.chance >= self.from.draw(prng)
    }
}

impl LossModel {
    fn new(loss: Option<Loss>, seed: u64) -> LossModel {
        match loss.unwrap_or(Loss::Random(Likely::default())) {
            Loss::Random(likely) => LossModel::Random(Draw::new(likely, seed, 1)),
            Loss::Gemodel { p, r, lost_in_bad, lost_in_good } => LossModel::Gemodel {
                to_bad: p.scaled(),
                to_good: r.scaled(),
                kept_in_bad: u32::MAX - lost_in_bad.scaled(),
                lost_in_good: lost_in_good.scaled(),
                bad: false,
            },
        }
    }

    fn happens(&mut self, prng: &mut Prng) -> bool {
        match self {
            LossModel::Random(draw) => draw.happens(prng),
            LossModel::Gemodel { to_bad, to_good, kept_in_bad, lost_in_good, bad } => {
                // The state that decides about this packet is the one it found.
                let found = *bad;
                let change = prng.draw();
                *bad = if found { change >= *to_good } else { change < *to_bad };
                let lost = prng.draw();
                if found { lost > *kept_in_bad } else { lost < *lost_in_good }
            }
        }
    }
}

impl Emulation {
    /// Of an impairment, from its beginning.
    pub fn new(impairment: &Impairment) -> Emulation {
        let seed = impairment.seed;
        Emulation {
            delay: i64::try_from(impairment.delay.as_nanos()).unwrap_or(i64::MAX),
            // As netem cuts it: some two seconds.
            jitter: i64::try_from(impairment.jitter.as_nanos()).unwrap_or(i64::MAX).min(i64::from(i32::MAX)),
            table: distribution::table(&impairment.distribution),
            rate: impairment.rate.filter(|rate| *rate != 0),
            limit: impairment.queue_limit(),
            loss: LossModel::new(impairment.loss, seed),
            duplicate: Draw::new(impairment.duplicate, seed, 2),
            corrupt: Draw::new(impairment.corrupt, seed, 3),
            reorder: impairment
                .reorder
                .map(|reorder| (reorder.gap.max(1), Draw::new(reorder.likely, seed, 4))),
            spread: Correlated::new(impairment.delay_correlation, seed, 0),
            chance: Prng::seeded(seed),
            bits: Prng::seeded(aside(seed, 5)),
            since_overtaking: 0,
            last: Moment(0),
        }
    }

    /// The fate of a packet that finds so many waiting. Packets are to be told in the order in which they arrive.
    pub fn arrive(&mut self, packet: Packet, waiting: usize) -> Fate {
        let mut fate = Fate::default();
        let doubled = self.duplicate.happens(&mut self.chance);
        let lost = self.loss.happens(&mut self.chance);
        if lost && !doubled {
            fate.lost = 1;
            return fate;
        }
        fate.duplicated = doubled && !lost;
        let corrupted = self.corruption(packet.length);
        if waiting >= self.limit as usize {
            fate.no_room = 1 + u8::from(fate.duplicated);
            return fate;
        }
        let mut before = 0;
        if fate.duplicated {
            if self.loss.happens(&mut self.chance) {
                fate.lost = 1;
            } else {
                let corrupted = self.corruption(packet.length);
                // netem looks whether there is room for the copy before the packet itself is in the queue.
                fate.copies[0] = Some(self.queued(packet, corrupted));
                before = 1;
            }
        }
        fate.copies[before] = Some(self.queued(packet, corrupted));
        fate
    }

    /// What every packet waits at least, before the time that it takes to transmit.
    pub fn least_delay(&self) -> Duration {
        if self.reorder.is_some() {
            return Duration::ZERO;
        }
        let least = match (&self.table, self.jitter) {
            (_, 0) => 0,
            (None, jitter) => -jitter,
            // What is rounded may be one less.
            (Some(table), jitter) => {
                let lowest = table.iter().copied().min().map_or(0, i64::from);
                jitter.saturating_mul(lowest) / SCALE - 1
            }
        };
        Duration::from_nanos(u64::try_from(self.delay.saturating_add(least)).unwrap_or(0))
    }

    /// How many packets wait at most.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    fn corruption(&mut self, length: u32) -> Option<u32> {
        if !self.corrupt.happens(&mut self.chance) || length == 0 {
            return None;
        }
        let bits = u64::from(length) * 8;
        // Less than the number of bits, which a frame has fewer than 2³² of.
        Some(((u64::from(self.bits.draw()) * bits) >> 32) as u32)
    }

    fn queued(&mut self, packet: Packet, corrupted: Option<u32>) -> Copy {
        if let Some((gap, draw)) = &mut self.reorder
            && self.since_overtaking >= *gap - 1
            && draw.chance >= draw.from.draw(&mut self.chance)
        {
            self.since_overtaking = 0;
            return Copy { due: packet.arrival, corrupted, overtakes: true };
        }
        self.since_overtaking = self.since_overtaking.saturating_add(1);
        let mut due = Moment(packet.arrival.0.saturating_add_signed(self.delayed()));
        if let Some(rate) = self.rate {
            let transmission = u128::from(packet.length) * 1_000_000_000 / u128::from(rate);
            let begin = due.max(self.last).max(Moment(packet.arrival.0));
            due = Moment(begin.0.saturating_add(u64::try_from(transmission).unwrap_or(u64::MAX)));
        }
        self.last = self.last.max(due);
        Copy { due, corrupted, overtakes: false }
    }

    /// Nanoseconds; less than none where the jitter is larger than the delay.
    fn delayed(&mut self) -> i64 {
        if self.jitter == 0 {
            return self.delay;
        }
        let drawn = self.spread.draw(&mut self.chance);
        let Some(table) = &self.table else {
            let width = 2 * self.jitter as u32;
            return i64::from(drawn % width).saturating_add(self.delay) - self.jitter;
        };
        let entry = i64::from(table[drawn as usize % table.len()]);
        // Whole parts and the rest apart, as netem does it, rounded away from zero.
        let rest = (self.jitter % SCALE) * entry;
        let rounded = if rest >= 0 { rest + SCALE / 2 } else { rest - SCALE / 2 };
        (rounded / SCALE + (self.jitter / SCALE) * entry).saturating_add(self.delay)
    }
}
