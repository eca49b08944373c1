//! Impairments as they are typed: in tc's words (tc(8) PARAMETERS, tc-netem(8)), except that a unit is never left out.
//! Between the words there may be commas and colons as well as blanks, so that a shell needs no quotes: `5%,25%`,
//! `gemodel:1%,30%`.

use std::str::FromStr;
use std::time::Duration;

use crate::impairment::{Chance, Distribution, Likely, Loss, Reorder};

/// The words of a value.
fn words(text: &str) -> Vec<&str> {
    text.split([' ', '\t', ',', ':']).filter(|word| !word.is_empty()).collect()
}

/// Why something that was typed is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No percentage.
    #[error("`{0}` is no percentage from 0% to 100%, such as 5% or 0.1%")]
    Percentage(String),
    /// No rate.
    #[error(
        "`{0}` is no rate such as 500kbit, 10mbit, 1gbit (bits), or 1MBps (bytes; mbps is bytes, too, as in tc)"
    )]
    Rate(String),
    /// No time.
    #[error("`{0}` is no time such as 100ms, 1.5s or 250us")]
    Time(String),
    /// No way to lose packets.
    #[error("`{0}` is no loss such as `5%`, `5%,25%` (with a correlation), or `gemodel:1%,10%,70%,0.1%`")]
    Loss(String),
    /// No reordering.
    #[error("`{0}` is no reordering such as `5%`, `5%,50%` (with a correlation), or `5%,gap,3`")]
    Reorder(String),
    /// Something by chance.
    #[error("`{0}` is no chance such as `5%`, or `5%,25%` with a correlation")]
    Likely(String),
    /// No distribution.
    #[error("`{0}` is none of uniform, normal, pareto, paretonormal")]
    Distribution(String),
}

impl FromStr for Chance {
    type Err = ParseError;

    /// `5%`, `0.1%`.
    fn from_str(text: &str) -> Result<Chance, ParseError> {
        let number = text.strip_suffix('%').and_then(decimal);
        number
            .and_then(|percent| Chance::new(percent / 100.0))
            .ok_or_else(|| ParseError::Percentage(text.to_owned()))
    }
}

impl FromStr for Likely {
    type Err = ParseError;

    /// `5%`, or `5% 25%` with a correlation.
    fn from_str(text: &str) -> Result<Likely, ParseError> {
        let words = words(text);
        match words[..] {
            [chance] => Ok(Likely { chance: chance.parse()?, correlation: Chance::default() }),
            [chance, correlation] => {
                Ok(Likely { chance: chance.parse()?, correlation: correlation.parse()? })
            }
            _ => Err(ParseError::Likely(text.to_owned())),
        }
    }
}

impl FromStr for Loss {
    type Err = ParseError;

    /// `5%`, `5% 25%`, `random 5%`, or `gemodel P [R [1-H [1-K]]]`, with tc's defaults.
    fn from_str(text: &str) -> Result<Loss, ParseError> {
        let words = words(text);
        match words[..] {
            ["gemodel" | "random"] => Err(ParseError::Loss(text.to_owned())),
            ["gemodel", p, ref rest @ ..] if rest.len() <= 3 => {
                let p: Chance = p.parse()?;
                let given = |at: usize, default: f64| match rest.get(at) {
                    Some(word) => word.parse(),
                    // 1 less a chance is one, too.
                    None => Ok(Chance::new(default).unwrap_or_default()),
                };
                let (r, lost_in_bad, lost_in_good) =
                    (given(0, 1.0 - p.get())?, given(1, 1.0)?, given(2, 0.0)?);
                Ok(Loss::Gemodel { p, r, lost_in_bad, lost_in_good })
            }
            ["random", ref rest @ ..] | ref rest @ [..] if matches!(rest.len(), 1 | 2) => {
                Ok(Loss::Random(rest.join(" ").parse()?))
            }
            _ => Err(ParseError::Loss(text.to_owned())),
        }
    }
}

impl FromStr for Reorder {
    type Err = ParseError;

    /// `5%`, `5% 50%`, either with `gap N`.
    fn from_str(text: &str) -> Result<Reorder, ParseError> {
        let wrong = || ParseError::Reorder(text.to_owned());
        let words = words(text);
        let (chance, gap) = match words[..] {
            [ref chance @ .., "gap", gap] => {
                (chance, gap.parse().ok().filter(|gap| *gap > 0).ok_or_else(wrong)?)
            }
            ref chance => (chance, 1),
        };
        if !matches!(chance.len(), 1 | 2) {
            return Err(wrong());
        }
        Ok(Reorder { likely: chance.join(" ").parse()?, gap })
    }
}

impl FromStr for Distribution {
    type Err = ParseError;

    /// By name; a file is read with [`crate::emulation::read_table`].
    fn from_str(text: &str) -> Result<Distribution, ParseError> {
        match text {
            "uniform" => Ok(Distribution::Uniform),
            "normal" => Ok(Distribution::Normal),
            "pareto" => Ok(Distribution::Pareto),
            "paretonormal" => Ok(Distribution::ParetoNormal),
            _ => Err(ParseError::Distribution(text.to_owned())),
        }
    }
}

/// A rate, in bytes per second: `10mbit`, `1.5gbit`, `500kibit`; `1MBps` and its kin are bytes. Letters may be large or small.
pub fn rate(text: &str) -> Result<u64, ParseError> {
    let wrong = || ParseError::Rate(text.to_owned());
    let lower = text.to_ascii_lowercase();
    let (number, unit) = split(&lower).ok_or_else(wrong)?;
    let (prefix, bits) = match (unit.strip_suffix("bit"), unit.strip_suffix("bps")) {
        (Some(prefix), _) => (prefix, 1.0),
        (None, Some(prefix)) => (prefix, 8.0),
        (None, None) => return Err(wrong()),
    };
    let factor = match prefix {
        "" => 1.0,
        "k" => 1e3,
        "m" => 1e6,
        "g" => 1e9,
        "t" => 1e12,
        "ki" => 1024f64,
        "mi" => 1024f64.powi(2),
        "gi" => 1024f64.powi(3),
        "ti" => 1024f64.powi(4),
        _ => return Err(wrong()),
    };
    let bytes = (number * factor * bits / 8.0).round();
    // Less than a byte per second is no rate; more than fits is beyond any link.
    if bytes < 1.0 || bytes >= u64::MAX as f64 { Err(wrong()) } else { Ok(bytes as u64) }
}

/// A time: `100ms`, `1.5s`, `250us`, `10ns`.
pub fn time(text: &str) -> Result<Duration, ParseError> {
    let wrong = || ParseError::Time(text.to_owned());
    let (number, unit) = split(text).ok_or_else(wrong)?;
    let factor = match unit {
        "s" | "sec" | "secs" => 1.0,
        "ms" | "msec" | "msecs" => 1e-3,
        "us" | "µs" | "usec" | "usecs" => 1e-6,
        "ns" | "nsec" | "nsecs" => 1e-9,
        _ => return Err(wrong()),
    };
    Duration::try_from_secs_f64(number * factor).map_err(|_| wrong())
}

/// A number without a sign, and its unit.
fn split(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    Some((decimal(&text[..end])?, &text[end..]))
}

/// A number of digits and at most one point.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain && text.starts_with(|c: char| c.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chance(probability: f64) -> Chance {
        Chance::new(probability).unwrap()
    }

    #[test]
    fn percentages_have_their_sign() {
        assert_eq!("5%".parse(), Ok(chance(0.05)));
        assert_eq!("0.5%".parse(), Ok(chance(0.005)));
        assert_eq!("100%".parse(), Ok(chance(1.0)));
        for wrong in ["5", "", "%", "-1%", "101%", "5 %", "nan%", "1e1%", ".5%", "inf%", "1.2.3%"] {
            assert_eq!(wrong.parse::<Chance>(), Err(ParseError::Percentage(wrong.into())));
        }
    }

    #[test]
    fn rates_are_tcs() {
        for (text, bytes) in [
            ("8bit", 1),
            ("500kbit", 62_500),
            ("10mbit", 1_250_000),
            ("1Gbit", 125_000_000),
            ("1.5gbit", 187_500_000),
            ("1MBps", 1_000_000),
            ("1mbps", 1_000_000),
            ("1kibps", 1024),
            ("8mibit", 1 << 20),
        ] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "10", "mbit", "10mb", "-1mbit", "0bit", "1e3bit", "10 mbit", "99999999999999tbit"] {
            assert_eq!(rate(wrong), Err(ParseError::Rate(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(time("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(time("250µs"), Ok(Duration::from_micros(250)));
        for wrong in ["100", "", "ms", "-1ms", "1h", "99999999999999999999s"] {
            assert_eq!(time(wrong), Err(ParseError::Time(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn losses_are_tcs() {
        let likely = |a, b| Likely { chance: chance(a), correlation: chance(b) };
        assert_eq!("5%".parse(), Ok(Loss::Random(likely(0.05, 0.0))));
        assert_eq!("5% 25%".parse(), Ok(Loss::Random(likely(0.05, 0.25))));
        assert_eq!("random 5%".parse(), Ok(Loss::Random(likely(0.05, 0.0))));
        let model = |p, r, bad, good| {
            let (p, r, lost_in_bad, lost_in_good) = (chance(p), chance(r), chance(bad), chance(good));
            Loss::Gemodel { p, r, lost_in_bad, lost_in_good }
        };
        assert_eq!("gemodel 1% 10% 70% 0.1%".parse(), Ok(model(0.01, 0.1, 0.7, 0.001)));
        assert_eq!("gemodel 1% 10%".parse(), Ok(model(0.01, 0.1, 1.0, 0.0)));
        assert_eq!("gemodel 1%".parse(), Ok(model(0.01, 0.99, 1.0, 0.0)));
        assert_eq!("gemodel:1%,10%".parse(), Ok(model(0.01, 0.1, 1.0, 0.0)));
        assert_eq!("5%,25%".parse(), Ok(Loss::Random(likely(0.05, 0.25))));
        for wrong in ["", "gemodel", "gemodel 1% 2% 3% 4% 5%", "1% 2% 3%", "random"] {
            assert_eq!(wrong.parse::<Loss>(), Err(ParseError::Loss(wrong.into())), "{wrong}");
        }
        assert_eq!("state 1%".parse::<Loss>(), Err(ParseError::Percentage("state".into())));
    }

    #[test]
    fn reordering_has_a_gap() {
        let reorder =
            |a, b, gap| Reorder { likely: Likely { chance: chance(a), correlation: chance(b) }, gap };
        assert_eq!("25%".parse(), Ok(reorder(0.25, 0.0, 1)));
        assert_eq!("25% 50%".parse(), Ok(reorder(0.25, 0.5, 1)));
        assert_eq!("25% 50% gap 5".parse(), Ok(reorder(0.25, 0.5, 5)));
        for wrong in ["", "gap 5", "25% gap 0", "25% gap x", "1% 2% 3%"] {
            assert_eq!(wrong.parse::<Reorder>(), Err(ParseError::Reorder(wrong.into())), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_no_panic(text: String) {
            let _ = (text.parse::<Loss>(), text.parse::<Reorder>(), text.parse::<Likely>(), rate(&text), time(&text));
        }
    }
}
