//! Links as people know them, by name.
//!
//! Rates and round-trip times of the access technologies are those that web performance tests have settled on
//! (WebPageTest's connectivity profiles); half of a round trip goes to each direction. The bad ones are made after what a
//! user of such a link sees: loss in bursts, and times that vary.

use std::time::Duration;

use crate::rule::Direction;
use crate::{Chance, Distribution, Impairment, Loss};

/// A link by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// As it is typed.
    pub name: &'static str,
    /// What it is like.
    pub about: &'static str,
    /// There and back, milliseconds.
    round_trip: u64,
    /// The standard deviation of one direction, milliseconds.
    jitter: u64,
    /// What the target gets and what it sends, kilobits per second.
    rates: [u64; 2],
    /// Bursts of loss: how often one begins, how often one ends.
    bursts: Option<[f64; 2]>,
}

/// All that there are.
pub const PROFILES: [Profile; 10] = [
    Profile::plain("dialup", "a modem of the nineties", 120, 0, [49, 30]),
    Profile::plain("2g", "EDGE", 800, 0, [280, 256]),
    Profile::plain("3g", "UMTS", 300, 0, [1_600, 768]),
    Profile::plain("4g", "LTE on the move", 170, 0, [9_000, 9_000]),
    Profile::plain("lte", "LTE, a good cell", 70, 0, [12_000, 12_000]),
    Profile::plain("dsl", "a long line", 50, 0, [1_500, 384]),
    Profile::plain("cable", "a shared cable", 28, 0, [5_000, 1_000]),
    Profile::plain("satellite", "geostationary", 600, 5, [25_000, 3_000]),
    Profile {
        bursts: Some([0.01, 0.3]),
        ..Profile::plain("lossy-wifi", "two walls too many", 6, 4, [20_000, 20_000])
    },
    Profile {
        bursts: Some([0.05, 0.2]),
        ..Profile::plain("very-bad", "a train in a tunnel", 1_000, 200, [1_000, 1_000])
    },
];

impl Profile {
    const fn plain(
        name: &'static str,
        about: &'static str,
        round_trip: u64,
        jitter: u64,
        rates: [u64; 2],
    ) -> Profile {
        Profile { name, about, round_trip, jitter, rates, bursts: None }
    }

    /// The profile of this name.
    pub fn find(name: &str) -> Result<Profile, String> {
        PROFILES.into_iter().find(|profile| profile.name == name).ok_or_else(|| {
            let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
            format!("no profile '{name}'; there are {}", names.join(", "))
        })
    }

    /// What it does to one direction.
    pub fn impairment(&self, direction: Direction) -> Impairment {
        let chance = |probability| Chance::new(probability).unwrap_or_default();
        let [down, up] = self.rates;
        let kilobits = match direction {
            Direction::In => down,
            Direction::Out => up,
        };
        Impairment {
            delay: Duration::from_micros(self.round_trip * 500),
            jitter: Duration::from_millis(self.jitter),
            distribution: if self.jitter > 0 { Distribution::Normal } else { Distribution::Uniform },
            loss: self.bursts.map(|[begin, end]| Loss::Gemodel {
                p: chance(begin),
                r: chance(end),
                lost_in_bad: chance(1.0),
                lost_in_good: chance(0.0),
            }),
            rate: Some(kilobits * 125),
            ..Impairment::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_is_found_by_its_name_and_does_something() {
        for profile in PROFILES {
            assert_eq!(Profile::find(profile.name), Ok(profile));
            for direction in Direction::ALL {
                assert!(!profile.impairment(direction).is_none(), "{}", profile.name);
            }
        }
        assert!(Profile::find("5g").unwrap_err().contains("satellite"));
    }
}
