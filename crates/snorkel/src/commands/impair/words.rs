//! The values of an impairment as they are typed: percentages, rates, models of loss; each for one direction or for both.

use std::fs::File;
use std::io::Read;
use std::str::FromStr;
use std::time::Duration;

use snorkel_fault::emulation::read_table;
use snorkel_fault::parse::{self, ParseError};
use snorkel_fault::profile::{PROFILES, Profile};
use snorkel_fault::rule::Direction;
use snorkel_fault::{Chance, Distribution};

/// No table of a distribution is near so many bytes: tc's have 4096 numbers, netem takes 16384.
const LARGEST_FILE: u64 = 1 << 20;

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

/// As the type is read.
pub(super) fn read<T: FromStr<Err = ParseError>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|wrong: ParseError| wrong.to_string())
}

/// `100ms`, also `0`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { parse::time(text).map_err(|wrong| wrong.to_string()) }
}

/// `20ms`, or `20ms,25%` if each delay takes a quarter from the one before.
pub(super) fn jitter(text: &str) -> Result<(Duration, Chance), String> {
    match text.split_once(',') {
        Some((jitter, correlation)) => Ok((time(jitter)?, read(correlation)?)),
        None => Ok((time(text)?, Chance::default())),
    }
}

/// `10mbit`, in bytes per second.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    parse::rate(text).map_err(|wrong| wrong.to_string())
}

/// A profile by its name.
pub(super) fn profile(name: &str) -> Result<&'static Profile, String> {
    Profile::named(name).ok_or_else(|| {
        let names: Vec<&str> = PROFILES.iter().map(|profile| profile.name).collect();
        format!("no profile '{name}'; there are {}", names.join(", "))
    })
}

/// A distribution by its name, or by the path of a table.
pub(super) fn distribution(text: &str) -> Result<Distribution, String> {
    let Err(unknown) = read::<Distribution>(text) else { return read(text) };
    let wrong = |why: String| format!("{unknown}, nor the file of a table: {why}");
    let file = File::open(text).map_err(|e| wrong(e.to_string()))?;
    let mut table = String::new();
    file.take(LARGEST_FILE).read_to_string(&mut table).map_err(|e| wrong(e.to_string()))?;
    read_table(&table).map(Distribution::Table).map_err(|e| wrong(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use snorkel_fault::Loss;

    use super::*;

    #[test]
    fn values_are_for_both_directions_or_for_one() {
        assert_eq!(sided("100ms", time).unwrap().side, None);
        let one = sided("in:5%", read::<Chance>).unwrap();
        assert!(one.is_for(Direction::In) && !one.is_for(Direction::Out));
        // A model of loss has a colon of its own.
        assert_eq!(sided("gemodel:1%", read::<Loss>).unwrap().side, None);
        assert_eq!(sided("out:gemodel:1%", read::<Loss>).unwrap().side, Some(Direction::Out));
    }

    #[test]
    fn a_distribution_is_a_name_or_the_file_of_a_table() {
        assert_eq!(distribution("normal"), Ok(Distribution::Normal));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"# a comment\n1 -2\n  3 # another\n").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(distribution(path), Ok(Distribution::Table(vec![1, -2, 3])));
        for wrong in ["gauss", "/dev/null", "/"] {
            assert!(distribution(wrong).is_err(), "{wrong}");
        }
    }
}
