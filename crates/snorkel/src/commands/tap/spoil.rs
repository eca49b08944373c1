//! How a tap spoils connections: what is typed, and what it means.

use std::time::Duration;

use clap::Args;
use snorkel_tap::spoil::{After, Instead, Rule, Spoil};

use crate::cli::{duration, size};
use crate::failure::Failure;

/// What is done to connections on purpose.
#[derive(Debug, Args)]
#[command(next_help_heading = "Spoil it")]
pub(super) struct SpoilArgs {
    /// Answers come this much later
    #[arg(long, value_name = "TIME", value_parser = duration)]
    latency: Option<Duration>,
    /// As slow as this, each way and each connection: 100kbit, 2mbit, 1MB
    #[arg(long, value_name = "RATE", value_parser = rate)]
    bandwidth: Option<u64>,
    /// In pieces of a few bytes
    #[arg(long)]
    slice: bool,
    /// Reset connections after so many bytes, or so long: 10KB, 3s
    #[arg(long, value_name = "SIZE|TIME", value_parser = after)]
    reset_after: Option<After>,
    /// Reset this part of the connections as soon as they are opened: 10%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    drop_connection: Option<f64>,
    /// Take connections and pass nothing on
    #[arg(long)]
    stall: bool,
    /// Requests that are not passed on: 'POST /pay', 'SET *', 'SELECT *'; with --respond or --reset; may be repeated
    #[arg(long = "match", value_name = "PATTERN")]
    matching: Vec<String>,
    /// Answer them with this status
    #[arg(long, value_name = "STATUS", requires = "matching", conflicts_with = "reset", value_parser = clap::value_parser!(u16).range(200..600))]
    respond: Option<u16>,
    /// Reset their connections
    #[arg(long, requires = "matching")]
    reset: bool,
    /// Where chance begins, to have a run again
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl SpoilArgs {
    /// What that comes to.
    pub(super) fn spoil(&self) -> Result<Spoil, Failure> {
        let instead = match (self.respond, self.reset) {
            (Some(status), _) => Some(Instead::Respond(status)),
            (None, true) => Some(Instead::Reset),
            (None, false) => None,
        };
        let rules = match instead {
            Some(instead) => {
                let rule = |pattern: &String| Rule { pattern: pattern.clone(), instead: instead.clone() };
                self.matching.iter().map(rule).collect()
            }
            None if self.matching.is_empty() => Vec::new(),
            None => {
                return Err(Failure::new("--match needs something to do with what matches")
                    .hint("--respond 503, or --reset"));
            }
        };
        Ok(Spoil {
            latency: self.latency.unwrap_or_default(),
            bandwidth: self.bandwidth,
            slice: self.slice,
            reset_after: self.reset_after,
            drop: self.drop_connection.unwrap_or_default(),
            stall: self.stall,
            rules,
            seed: self.seed.unwrap_or_else(any_seed),
        })
    }
}

/// A seed that is short enough to be typed again.
fn any_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ u64::from(std::process::id())
}

/// Bytes a second: `100kbit`, `1MB`.
fn rate(text: &str) -> Result<u64, String> {
    let bits = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];
    for (unit, factor) in bits {
        if let Some(number) = text.strip_suffix(unit) {
            let number: f64 = number.parse().map_err(|_| format!("'{number}' is not a number"))?;
            let bytes = number * f64::from(factor) / 8.0;
            return if (1.0..1e15).contains(&bytes) {
                Ok(bytes as u64)
            } else {
                Err("at least 8bit are needed".into())
            };
        }
    }
    size(text.strip_suffix("/s").unwrap_or(text))
}

fn after(text: &str) -> Result<After, String> {
    duration(text)
        .map(After::Time)
        .or_else(|_| size(text).map(After::Bytes))
        .map_err(|_| "a size or a time is needed, as 10KB or 3s".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    number
        .parse::<f64>()
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "a part between 0% and 100% is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_parts_and_ends_read_as_people_write_them() {
        assert_eq!(rate("100kbit"), Ok(12_500));
        assert_eq!(rate("1MB/s"), Ok(1_000_000));
        assert_eq!(percent("10%"), Ok(0.1));
        assert_eq!(after("3s"), Ok(After::Time(Duration::from_secs(3))));
        assert_eq!(after("10KB"), Ok(After::Bytes(10_000)));
        for wrong in ["", "x", "-1%", "101%"] {
            assert!(percent(wrong).is_err() && after(wrong).is_err() && rate(wrong).is_err(), "{wrong}");
        }
    }
}
