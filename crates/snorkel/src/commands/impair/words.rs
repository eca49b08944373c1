//! The values of an impairment as they are typed: percentages, rates, models of loss; each for one direction or for both.

use std::path::Path;
use std::time::Duration;

use snorkel_fault::rule::Direction;
use snorkel_fault::{Chance, Distribution, Likely, Loss, Reorder};

use crate::cli::duration;

/// A table of a distribution has no more numbers (tc's have 4096 and netem takes 16384).
const LARGEST_TABLE: usize = 16384;

/// A value for one direction, or for all that are impaired.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sided<T> {
    /// The one; both if none.
    pub(super) side: Option<Direction>,
    /// What holds there.
    pub(super) value: T,
}

impl<T> Sided<T> {
    /// Whether it holds in this direction.
    pub(super) fn is_for(&self, direction: Direction) -> bool {
        self.side.is_none_or(|side| side == direction)
    }
}

/// Reads `VALUE`, `in:VALUE` or `out:VALUE`.
pub(super) fn sided<T>(text: &str, value: impl Fn(&str) -> Result<T, String>) -> Result<Sided<T>, String> {
    let (side, rest) = match text.split_once(':') {
        Some(("in", rest)) => (Some(Direction::In), rest),
        Some(("out", rest)) => (Some(Direction::Out), rest),
        _ => (None, text),
    };
    Ok(Sided { side, value: value(rest)? })
}

/// `100ms`, also `0`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

/// `20ms`, or `20ms,25%` if each delay takes a quarter from the one before.
pub(super) fn jitter(text: &str) -> Result<(Duration, Chance), String> {
    match text.split_once(',') {
        Some((jitter, correlation)) => Ok((time(jitter)?, percent(correlation)?)),
        None => Ok((time(text)?, Chance::default())),
    }
}

/// `5%`, `0.1%`.
pub(super) fn percent(text: &str) -> Result<Chance, String> {
    let wrong = || format!("'{text}' is no percentage, as 5% is");
    let digits = text.strip_suffix('%').ok_or_else(wrong)?;
    let number: f64 = digits.trim().parse().map_err(|_| wrong())?;
    Chance::new(number / 100.0).ok_or_else(|| format!("'{text}' is not between 0% and 100%"))
}

/// `5%`, or `5%,25%` with a correlation.
pub(super) fn likely(text: &str) -> Result<Likely, String> {
    match text.split_once(',') {
        Some((chance, correlation)) => {
            Ok(Likely { chance: percent(chance)?, correlation: percent(correlation)? })
        }
        None => Ok(Likely { chance: percent(text)?, correlation: Chance::default() }),
    }
}

/// `5%`, `5%,25%`, or `gemodel:P[,R[,1-H[,1-K]]]` with tc-netem(8)'s meaning of the four.
pub(super) fn loss(text: &str) -> Result<Loss, String> {
    let Some(model) = text.strip_prefix("gemodel:") else { return likely(text).map(Loss::Random) };
    let chances = model.split(',').map(percent).collect::<Result<Vec<Chance>, String>>()?;
    let (p, rest) = chances.split_first().ok_or("gemodel needs a chance at least: gemodel:1%")?;
    if rest.len() > 3 {
        return Err("gemodel has four chances at most: P, R, 1-H, 1-K".to_owned());
    }
    let or = |at: usize, otherwise: f64| {
        rest.get(at).copied().unwrap_or_else(|| Chance::new(otherwise).unwrap_or_default())
    };
    Ok(Loss::Gemodel { p: *p, r: or(0, 1.0 - p.get()), lost_in_bad: or(1, 1.0), lost_in_good: or(2, 0.0) })
}

/// `5%`, `5%,25%`.
pub(super) fn reorder(text: &str) -> Result<Reorder, String> {
    Ok(Reorder { likely: likely(text)?, gap: 1 })
}

/// `10mbit`, `512kbit`, `1gbit`, in bytes per second.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let unit = lower.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let bits = match unit {
        "bit" => 1.0,
        "kbit" => 1e3,
        "mbit" => 1e6,
        "gbit" => 1e9,
        other => return Err(format!("no unit of rate '{other}'; there are bit, kbit, mbit, gbit")),
    };
    let digits = &lower[..lower.len() - unit.len()];
    let number: f64 = digits.parse().map_err(|_| format!("'{digits}' is not a number"))?;
    Some(number * bits / 8.0)
        .filter(|bytes| (1.0..1e12).contains(bytes))
        // Within range, as just seen.
        .map(|bytes| bytes as u64)
        .ok_or_else(|| "a rate between 8bit and 8000gbit is needed".to_owned())
}

/// A distribution by its name, or by the path of a table.
pub(super) fn distribution(text: &str) -> Result<Distribution, String> {
    match text {
        "uniform" => Ok(Distribution::Uniform),
        "normal" => Ok(Distribution::Normal),
        "pareto" => Ok(Distribution::Pareto),
        "paretonormal" => Ok(Distribution::ParetoNormal),
        path => {
            let wrong = |why: String| {
                format!("'{path}' is none of uniform, normal, pareto, paretonormal, nor the file of a table: {why}")
            };
            let text = std::fs::read_to_string(Path::new(path)).map_err(|e| wrong(e.to_string()))?;
            table(&text).map(Distribution::Table).map_err(wrong)
        }
    }
}

/// A table as tc reads it: numbers, and comments behind `#`.
fn table(text: &str) -> Result<Vec<i16>, String> {
    let words = text.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_ascii_whitespace);
    let numbers = words
        .map(|word| word.parse().map_err(|_| format!("'{word}' is no number between -32768 and 32767")))
        .collect::<Result<Vec<i16>, String>>()?;
    match numbers.len() {
        0 => Err("it has no number".to_owned()),
        many if many > LARGEST_TABLE => Err(format!("it has more than {LARGEST_TABLE} numbers")),
        _ => Ok(numbers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chance(probability: f64) -> Chance {
        Chance::new(probability).unwrap()
    }

    #[test]
    fn values_are_for_both_directions_or_for_one() {
        assert_eq!(sided("100ms", time).unwrap().side, None);
        let one = sided("in:5%", percent).unwrap();
        assert!(one.is_for(Direction::In) && !one.is_for(Direction::Out));
        // A model of loss has a colon of its own.
        assert_eq!(sided("gemodel:1%", loss).unwrap().side, None);
        assert_eq!(sided("out:gemodel:1%", loss).unwrap().side, Some(Direction::Out));
    }

    #[test]
    fn percentages_rates_and_tables_read_as_people_write_them() {
        assert_eq!(percent("0.1%"), Ok(chance(0.001)));
        assert_eq!(likely("5%,25%"), Ok(Likely { chance: chance(0.05), correlation: chance(0.25) }));
        assert_eq!(rate("10mbit"), Ok(1_250_000));
        assert_eq!(rate("1.5Mbit"), Ok(187_500));
        assert_eq!(table("# a comment\n1 -2\n  3 # another\n"), Ok(vec![1, -2, 3]));
        for wrong in ["5", "101%", "-1%", "%", "NaN%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        for wrong in ["10", "mbit", "10mb", "0bit", "1e9gbit"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "# nothing\n", "70000", "a"] {
            assert!(table(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_model_of_loss_has_tcs_defaults() {
        let model = |text| loss(text).unwrap();
        let gemodel = |p, r, bad, good| Loss::Gemodel {
            p: chance(p),
            r: chance(r),
            lost_in_bad: chance(bad),
            lost_in_good: chance(good),
        };
        assert_eq!(model("gemodel:25%"), gemodel(0.25, 0.75, 1.0, 0.0));
        assert_eq!(model("gemodel:25%,50%,75%,1%"), gemodel(0.25, 0.5, 0.75, 0.01));
        assert!(loss("gemodel:").is_err() && loss("gemodel:1%,1%,1%,1%,1%").is_err());
    }
}
