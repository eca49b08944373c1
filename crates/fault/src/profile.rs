//! Networks by name: what a kind of access, or of distance, does to packets, from published figures.
//!
//! Where a source gives a round trip, each direction gets half of it. Seeds are not part of a profile.

use std::time::Duration;

use crate::impairment::{Chance, Distribution, Impairment, Loss};
use crate::rule::Direction;

/// A kind of network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// What it is called on the command line.
    pub name: &'static str,
    /// Other names for the same.
    pub also: &'static [&'static str],
    /// What it is, on one line.
    pub summary: &'static str,
    /// Where its figures are from.
    pub source: &'static str,
    /// To the target, kilobits per second; no limit if none.
    down: Option<u64>,
    /// From the target.
    up: Option<u64>,
    /// One way.
    delay: Duration,
    /// The standard deviation of the delay.
    jitter: Duration,
    /// Lost packets of a thousand, and how many in a row in the mean.
    loss: Option<(f64, f64)>,
}

const WEBPAGETEST: &str = "WebPageTest's connectivity profiles (www/settings/connectivity.ini.sample)";

const fn access(
    name: &'static str,
    also: &'static [&'static str],
    summary: &'static str,
    down: u64,
    up: u64,
    round_trip: u64,
) -> Profile {
    Profile {
        name,
        also,
        summary,
        source: WEBPAGETEST,
        down: Some(down),
        up: Some(up),
        delay: Duration::from_micros(round_trip * 500),
        jitter: Duration::ZERO,
        loss: None,
    }
}

/// All there are, from the slowest access to the longest way.
pub const PROFILES: &[Profile] = &[
    access("edge", &[], "EDGE: 240/200 kbit/s, 840 ms there and back", 240, 200, 840),
    access("2g", &[], "GPRS: 280/256 kbit/s, 800 ms there and back", 280, 256, 800),
    access("3g", &[], "a usual 3G: 1.6/0.768 Mbit/s, 300 ms there and back", 1600, 768, 300),
    access("3g-fast", &[], "a good 3G: 1.6/0.768 Mbit/s, 150 ms there and back", 1600, 768, 150),
    access("3g-slow", &[], "a poor 3G: 780/330 kbit/s, 200 ms there and back", 780, 330, 200),
    access("lte", &["4g"], "LTE: 12/12 Mbit/s, 70 ms there and back", 12_000, 12_000, 70),
    access("dsl", &[], "DSL: 1.5/0.384 Mbit/s, 50 ms there and back", 1500, 384, 50),
    access("cable", &[], "cable: 5/1 Mbit/s, 28 ms there and back", 5000, 1000, 28),
    access("fibre", &["fios"], "fibre: 20/5 Mbit/s, 4 ms there and back", 20_000, 5000, 4),
    Profile {
        name: "satellite",
        also: &[],
        summary: "a geostationary satellite: 25/3 Mbit/s, 558 ms there and back",
        source: "RFC 2488 section 2 for the delay (279 ms from ground to ground at the edge of its view); the FCC's \
                 Broadband Progress Report of 2015 for the rates (25/3 Mbit/s, what such services offer)",
        down: Some(25_000),
        up: Some(3000),
        delay: Duration::from_millis(279),
        jitter: Duration::ZERO,
        loss: None,
    },
    Profile {
        name: "lossy-wifi",
        also: &[],
        summary: "a crowded wireless network: 5% lost in bursts, delays that stray",
        source: "RFC 8868 section 4.2 for the loss (5 %, its third step); bursts of five packets, the delays and \
                 30 Mbit/s are assumptions",
        down: Some(30_000),
        up: Some(30_000),
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(5),
        loss: Some((50.0, 5.0)),
    },
    Profile {
        name: "transatlantic",
        also: &[],
        summary: "a line across the Atlantic: 90 ms there and back, no limit of rate",
        source: "what carriers agree to between London and New York (90 ms, monthly mean of the round trip)",
        down: None,
        up: None,
        delay: Duration::from_millis(45),
        jitter: Duration::ZERO,
        loss: None,
    },
];

impl Profile {
    /// By its name, or one of its other names.
    pub fn named(name: &str) -> Option<&'static Profile> {
        PROFILES.iter().find(|profile| profile.name == name || profile.also.contains(&name))
    }

    /// What it does to the packets of one direction.
    pub fn impairment(&self, direction: Direction) -> Impairment {
        self.at_rate(match direction {
            Direction::In => self.down,
            Direction::Out => self.up,
        })
    }

    fn at_rate(&self, kilobits: Option<u64>) -> Impairment {
        Impairment {
            delay: self.delay,
            jitter: self.jitter,
            distribution: if self.jitter.is_zero() { Distribution::Uniform } else { Distribution::Pareto },
            loss: self.loss.map(|(thousandths, burst)| bursts(thousandths / 1000.0, burst)),
            rate: kilobits.map(|kilobits| kilobits * 125),
            ..Impairment::default()
        }
    }
}

/// Loss of this share in bursts of this mean length, after Gilbert: all is lost in the bad state, nothing in the good.
fn bursts(share: f64, length: f64) -> Loss {
    let chance = |probability| Chance::new(probability).unwrap_or_default();
    let r = 1.0 / length;
    // The bad state has p / (p + r) of the time.
    let p = share * r / (1.0 - share);
    Loss::Gemodel { p: chance(p), r: chance(r), lost_in_bad: chance(1.0), lost_in_good: chance(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_name_is_one_profiles_and_every_figure_has_a_source() {
        let names: Vec<&str> =
            PROFILES.iter().flat_map(|profile| profile.also.iter().chain([&profile.name])).copied().collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        for profile in PROFILES {
            assert_eq!(Profile::named(profile.name), Some(profile));
            assert!(!profile.source.is_empty() && !profile.summary.is_empty());
            assert!(![Direction::In, Direction::Out].iter().any(|d| profile.impairment(*d).is_none()));
        }
        assert_eq!(Profile::named("4g"), Profile::named("lte"));
        assert_eq!(Profile::named("5g"), None);
    }

    #[test]
    fn a_round_trip_is_shared_between_the_directions() {
        let profile = Profile::named("3g").unwrap();
        let (towards, from) = (profile.impairment(Direction::In), profile.impairment(Direction::Out));
        assert_eq!(towards.delay + from.delay, Duration::from_millis(300));
        assert_eq!((towards.rate, from.rate), (Some(200_000), Some(96_000)));
    }

    #[test]
    fn bursts_have_the_share_and_length_that_they_are_said_to_have() {
        let Loss::Gemodel { p, r, .. } = bursts(0.05, 5.0) else { panic!("it is a model") };
        assert!((p.get() / (p.get() + r.get()) - 0.05).abs() < 1e-12);
        assert!((1.0 / r.get() - 5.0).abs() < 1e-12);
    }
}
