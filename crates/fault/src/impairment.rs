//! What an impaired direction of a link does to the packets that go that way.
//!
//! The parameters are those of tc-netem(8) and mean the same, whether the kernel's netem carries them out or snorkel's
//! own scheduler.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A probability, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Chance(f64);

impl Chance {
    /// `None` for what is no probability.
    pub fn new(probability: f64) -> Option<Chance> {
        (0.0..=1.0).contains(&probability).then_some(Chance(probability))
    }

    /// From 0 to 1.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Whether it never happens.
    pub fn is_never(self) -> bool {
        self.0 == 0.0
    }

    /// As netem has it: 0 is never, `u32::MAX` always (linux/pkt_sched.h, `struct tc_netem_corr`).
    pub fn scaled(self) -> u32 {
        // Rounded, and within u32 because the value is at most 1.
        (self.0 * f64::from(u32::MAX)).round() as u32
    }
}

impl TryFrom<f64> for Chance {
    type Error = String;
    fn try_from(probability: f64) -> Result<Chance, String> {
        Chance::new(probability).ok_or_else(|| format!("{probability} is no probability between 0 and 1"))
    }
}

impl From<Chance> for f64 {
    fn from(chance: Chance) -> f64 {
        chance.0
    }
}

/// Something that happens to a packet by chance, which may depend on whether it happened to the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Likely {
    /// How often it happens.
    pub chance: Chance,
    /// How much each draw takes from the one before; 0 for independent ones.
    #[serde(default, skip_serializing_if = "is_never")]
    pub correlation: Chance,
}

/// How packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Each by itself, or as the one before with a correlation.
    Random(Likely),
    /// In bursts, after Gilbert and Elliott: two states, good and bad.
    Gemodel {
        /// From good to bad.
        p: Chance,
        /// From bad to good.
        r: Chance,
        /// Lost in the bad state (netem's 1-h).
        lost_in_bad: Chance,
        /// Lost in the good state (netem's 1-k).
        lost_in_good: Chance,
    },
}

/// Packets that overtake the delayed ones: they are sent at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reorder {
    /// How often a packet overtakes.
    pub likely: Likely,
    /// Every how many packets one may; 1: any of them.
    pub gap: u32,
}

/// How delays are spread about their mean.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// Evenly between delay − jitter and delay + jitter.
    #[default]
    Uniform,
    /// Gauss: jitter is the standard deviation.
    Normal,
    /// Pareto: a long tail above.
    Pareto,
    /// A quarter normal, three quarters pareto, as tc's table of that name.
    ParetoNormal,
    /// A table as tc's `.dist` files have them: the inverse of the distribution function, in 1/8192 of the jitter.
    Table(Vec<i16>),
}

/// What happens to the packets of one direction. The default does nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Impairment {
    /// One-way, added to each packet.
    pub delay: Duration,
    /// How far single delays differ from it: the standard deviation, or half the width of an even spread.
    pub jitter: Duration,
    /// How much each delay takes from the one before.
    pub delay_correlation: Chance,
    /// The shape of the spread.
    pub distribution: Distribution,
    /// Packets that never arrive.
    pub loss: Option<Loss>,
    /// Packets that arrive twice.
    pub duplicate: Likely,
    /// Packets that overtake others; needs a delay.
    pub reorder: Option<Reorder>,
    /// Packets in which one bit is turned.
    pub corrupt: Likely,
    /// Bytes per second on the wire, Ethernet header included; no limit if none.
    pub rate: Option<u64>,
    /// How many packets wait at most, later ones are dropped; if none, enough for rate and delay.
    pub limit: Option<u32>,
    /// Where the draws of chance begin: the same seed and the same packets have the same fate.
    pub seed: u64,
}

impl Impairment {
    /// Whether packets pass as they came: no draw and no delay can change any of them.
    pub fn is_none(&self) -> bool {
        let never = |likely: &Likely| likely.chance.is_never();
        self.delay.is_zero()
            && self.jitter.is_zero()
            && self.rate.is_none_or(|rate| rate == 0)
            && self.loss.is_none_or(|loss| loss.is_never())
            && never(&self.duplicate)
            && never(&self.corrupt)
    }

    /// How many packets wait at most: [`Impairment::limit`], or else what the wire holds with this rate and delay.
    ///
    /// That is what arrives during the delay and four times the jitter: at `rate`, packets of 256 bytes (what a mixture of
    /// data and acknowledgements comes to); with no rate, packets of 1500 bytes at 10 Gbit/s. A thousand more are for
    /// those that wait for their turn, as in netem's own default, and at a rate as many packets of 1500 bytes as leave in a
    /// quarter of a second: what routers are built for (Appenzeller, Keslassy, McKeown, Sizing Router Buffers, 2004), and more
    /// than one stream's window from 100 Mbit/s on (tcp(7), tcp_wmem). There are 262144 at most: half a gigabyte of memory.
    pub fn queue_limit(&self) -> u32 {
        const WAITING: u128 = 1000;
        const QUARTER: u128 = 4;
        const MOST: u128 = 1 << 18;
        const SMALL: u128 = 256;
        const LARGE: u128 = 1500;
        const FAST: u128 = 1_250_000_000;
        if let Some(limit) = self.limit {
            return limit;
        }
        let (rate, size) = match self.rate {
            Some(rate) if rate != 0 => (u128::from(rate), SMALL),
            _ => (FAST, LARGE),
        };
        let time = self.delay.as_nanos() + 4 * self.jitter.as_nanos();
        let travelling = rate.saturating_mul(time) / 1_000_000_000 / size;
        let waiting = WAITING + self.rate.map_or(0, u128::from) / QUARTER / LARGE;
        travelling.saturating_add(waiting).min(MOST) as u32
    }
}

impl Loss {
    /// Whether nothing is ever lost.
    pub fn is_never(self) -> bool {
        match self {
            Loss::Random(likely) => likely.chance.is_never(),
            Loss::Gemodel { p, lost_in_bad, lost_in_good, .. } => {
                lost_in_good.is_never() && (p.is_never() || lost_in_bad.is_never())
            }
        }
    }
}

/// For serde, which hands out a reference.
fn is_never(chance: &Chance) -> bool {
    chance.is_never()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chance_lies_between_never_and_always() {
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Chance::new(wrong), None, "{wrong}");
        }
        let scaled = |probability| Chance::new(probability).map(Chance::scaled);
        assert_eq!(scaled(0.0), Some(0));
        assert_eq!(scaled(1.0), Some(u32::MAX));
        assert_eq!(scaled(0.5), Some(1 << 31));
    }

    #[test]
    fn the_queue_holds_what_is_on_its_way() {
        let limit = |rate, delay, jitter| {
            let (delay, jitter) = (Duration::from_millis(delay), Duration::from_millis(jitter));
            Impairment { rate, delay, jitter, ..Impairment::default() }.queue_limit()
        };
        assert_eq!(limit(None, 0, 0), 1000);
        // 1 Mbit/s for a quarter of a second are 31 kB, 100 Mbit/s 3.1 MB.
        assert_eq!(limit(Some(125_000), 0, 0), 1000 + 20);
        assert_eq!(limit(Some(12_500_000), 0, 0), 1000 + 2083);
        assert_eq!(limit(Some(0), 0, 0), 1000);
        // 100 Mbit/s for 100 ms are 1.25 MB; with a jitter of 25 ms they may be twice that.
        assert_eq!(limit(Some(12_500_000), 100, 0), 1000 + 2083 + 4882);
        assert_eq!(limit(Some(12_500_000), 100, 25), 1000 + 2083 + 9765);
        assert_eq!(limit(Some(u64::MAX), 0, 0), 1 << 18);
        assert_eq!(limit(None, 100, 0), 1000 + 83_333);
        assert_eq!(limit(None, 60_000, 0), 1 << 18);
        assert_eq!(Impairment { limit: Some(7), ..Impairment::default() }.queue_limit(), 7);
    }

    #[test]
    fn what_can_change_no_packet_is_no_impairment() {
        let chance = |probability| Chance::new(probability).unwrap();
        let none = Impairment::default();
        assert!(none.is_none());
        let gemodel = |p, bad| {
            let (p, r, lost_in_bad, lost_in_good) = (chance(p), chance(0.5), chance(bad), chance(0.0));
            Impairment { loss: Some(Loss::Gemodel { p, r, lost_in_bad, lost_in_good }), ..none.clone() }
        };
        assert!(gemodel(0.0, 1.0).is_none() && gemodel(1.0, 0.0).is_none() && !gemodel(0.1, 0.1).is_none());
        for some in [
            Impairment { delay: Duration::from_nanos(1), ..none.clone() },
            Impairment { rate: Some(1), ..none.clone() },
            Impairment { corrupt: Likely { chance: chance(0.1), ..Likely::default() }, ..none.clone() },
        ] {
            assert!(!some.is_none(), "{some:?}");
        }
    }
}
