//! The thread of a wire that turns packets down.
//!
//! It answers what may be answered ([`answer`]), at a bounded rate, as hosts do (RFC 1812 4.3.2.8): a flood must not be
//! turned into another one.

use super::answer::answer;
use super::clock::Clock;
use super::counts::{Counts, Detail};
use super::sender::{BATCH, Sender};
use super::socket::Ring;
use super::worker::{Next, Work};
use crate::emulation::Moment;

/// Answers in a row, and how soon there may be another one.
const BURST: u64 = 1000;
const EVERY: u64 = 100_000;

/// Who answers.
pub(super) struct Answerer {
    ring: Ring,
    sender: Sender,
    counts: Counts,
    allowance: Allowance,
}

/// How many answers may be given: a bucket that fills with time.
#[derive(Debug, Default)]
struct Allowance {
    /// Until when answers have been given in advance.
    spent: Moment,
}

impl Allowance {
    fn take(&mut self, now: Moment) -> bool {
        let spent = self.spent.max(Moment(now.0.saturating_sub(BURST * EVERY)));
        let allowed = spent.0 + EVERY <= now.0;
        if allowed {
            self.spent = Moment(spent.0 + EVERY);
        }
        allowed
    }
}

impl Answerer {
    pub(super) fn new(ring: Ring, sender: Sender) -> Answerer {
        let counts = Counts { detail: Some(Detail::default()), ..Counts::default() };
        Answerer { ring, sender, counts, allowance: Allowance::default() }
    }
}

impl Work for Answerer {
    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn turn(&mut self) -> Next {
        let now = Clock::read().now;
        let mut detail = self.counts.detail.unwrap_or_default();
        let mut answers = Vec::new();
        let mut read = 0;
        for frame in self.ring.arrived(BATCH) {
            read += 1;
            let large = frame.take_large();
            let made = large.as_deref().or(frame.into_bytes().as_deref()).and_then(answer);
            match made {
                None => detail.refused += 1,
                Some(made) if self.allowance.take(now) => answers.push(made),
                Some(_) => detail.no_room += 1,
            }
        }
        self.ring.release(read);
        detail.arrived += read as u64;
        if !answers.is_empty() {
            let packets: Vec<&[u8]> = answers.iter().map(Vec::as_slice).collect();
            let refused = self.sender.send(&packets);
            detail.refused += refused;
            self.counts.sent += answers.len() as u64 - refused;
            self.counts.bytes += answers.iter().map(|answer| answer.len() as u64).sum::<u64>();
        }
        self.counts.detail = Some(detail);
        if read > 0 { Next::Again } else { Next::Listen(None) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_a_burst_and_then_at_their_rate() {
        let mut allowance = Allowance::default();
        let begin = 1_000_000_000_000;
        let at_once = (0..5000).filter(|_| allowance.take(Moment(begin))).count();
        assert_eq!(at_once as u64, BURST);
        let later = (0..5000).filter(|_| allowance.take(Moment(begin + 50 * EVERY))).count();
        assert_eq!(later, 50);
    }
}
