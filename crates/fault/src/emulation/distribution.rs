//! How delays are spread: tables of the inverse of a distribution function.
//!
//! netem draws an entry of such a table with equal chance, and adds entry × jitter / 8192 to the delay (`tabledist` and
//! `NETEM_DIST_SCALE` of the kernel; `NETEM_DIST_MAX` entries at most). An entry has 16 bits, so that no delay is further
//! than four times the jitter from the mean; the tables here have, with their tails cut there, the mean 0 and the standard
//! deviation 1, so that jitter is what it is said to be. tc has its tables in files, which can be read, too.

use crate::impairment::Distribution;

/// What an entry of one standard deviation is.
const SCALE: f64 = 8192.0;
/// The most entries that netem takes.
const MOST: usize = 16384;
/// The entries of the tables that are made here.
const ENTRIES: usize = 4096;
/// Pareto's shape: the smallest whole one whose deviation is finite; tc's table has the same.
const PARETO_SHAPE: f64 = 3.0;
/// How much of the mixture is normal.
const NORMAL_PART: f64 = 0.25;

/// Why a table cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DistributionError {
    /// A word is no number of 16 bits.
    #[error("line {line}: `{word}` is no whole number between -32768 and 32767")]
    Number {
        /// Counted from 1.
        line: usize,
        /// The word as it stands there.
        word: String,
    },
    /// There is nothing in it.
    #[error("there is no number in it")]
    Empty,
    /// It has more numbers than netem takes.
    #[error("it has more than {MOST} numbers, which is what netem takes at most")]
    TooLong,
}

/// The table of a distribution; `None` for the even one, which needs none.
pub fn table(distribution: &Distribution) -> Option<Vec<i16>> {
    match distribution {
        Distribution::Uniform => None,
        Distribution::Normal => Some(standardised(normal())),
        Distribution::Pareto => Some(standardised(pareto())),
        Distribution::ParetoNormal => {
            let mixed = normal().into_iter().zip(pareto());
            // Both standardised by their own right first: what is mixed are deviations.
            Some(standardised(
                mixed
                    .map(|(normal, pareto)| {
                        NORMAL_PART * normal + (1.0 - NORMAL_PART) * (pareto - PARETO_MEAN) / PARETO_DEVIATION
                    })
                    .collect(),
            ))
        }
        Distribution::Table(table) => Some(table.clone()),
    }
}

/// Reads a table in the form of tc's `.dist` files: whole numbers between white space, and comments behind `#`.
pub fn read_table(text: &str) -> Result<Vec<i16>, DistributionError> {
    let mut table = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words = line.split('#').next().unwrap_or_default().split_whitespace();
        for word in words {
            let entry = word
                .parse()
                .map_err(|_| DistributionError::Number { line: number + 1, word: word.to_owned() })?;
            if table.len() == MOST {
                return Err(DistributionError::TooLong);
            }
            table.push(entry);
        }
    }
    if table.is_empty() { Err(DistributionError::Empty) } else { Ok(table) }
}

const PARETO_MEAN: f64 = PARETO_SHAPE / (PARETO_SHAPE - 1.0);
/// The square root of `shape / ((shape - 1)² (shape - 2))`, which is 3/4.
const PARETO_DEVIATION: f64 = 0.866_025_403_784_438_6;

/// The chance that belongs to the middle of an entry.
fn middle(entry: usize) -> f64 {
    (entry as f64 + 0.5) / ENTRIES as f64
}

/// Gauss's, turned round by adding its density up in small steps.
fn normal() -> Vec<f64> {
    const STEP: f64 = 1e-4;
    const FROM: f64 = -6.0;
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let (mut x, mut below) = (FROM, 0.0);
    let quantile = |entry| {
        let wanted = middle(entry);
        while below < wanted {
            below += density(x + STEP / 2.0) * STEP;
            x += STEP;
        }
        x
    };
    (0..ENTRIES).map(quantile).collect()
}

/// Pareto's, whose inverse is a power.
fn pareto() -> Vec<f64> {
    (0..ENTRIES).map(|entry| (1.0 - middle(entry)).powf(-1.0 / PARETO_SHAPE)).collect()
}

/// Moved and stretched until mean and deviation are 0 and 1 as they come out of the table, cut and rounded.
fn standardised(values: Vec<f64>) -> Vec<i16> {
    let (mut shift, mut stretch) = (0.0, 1.0);
    let mut table = Vec::new();
    // Each round comes much closer, because little is cut off.
    for _ in 0..32 {
        let entry = |value: &f64| {
            let scaled = ((value - shift) * stretch * SCALE).round();
            scaled.clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16
        };
        table = values.iter().map(entry).collect();
        let (mean, deviation) = moments(&table);
        shift += mean / stretch;
        stretch /= deviation;
    }
    table
}

/// Mean and standard deviation of a table, in units of the jitter.
fn moments(table: &[i16]) -> (f64, f64) {
    let count = table.len() as f64;
    let mean = table.iter().map(|entry| f64::from(*entry) / SCALE).sum::<f64>() / count;
    let variance = table.iter().map(|entry| (f64::from(*entry) / SCALE - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MADE: [Distribution; 3] = [Distribution::Normal, Distribution::Pareto, Distribution::ParetoNormal];

    #[test]
    fn every_table_has_mean_0_and_deviation_1_and_rises() {
        for distribution in MADE {
            let table = table(&distribution).unwrap();
            let (mean, deviation) = moments(&table);
            assert!(mean.abs() < 0.005, "{distribution:?}: {mean}");
            assert!((deviation - 1.0).abs() < 0.005, "{distribution:?}: {deviation}");
            assert!(table.is_sorted(), "{distribution:?}");
            assert_eq!(table.len(), ENTRIES);
        }
        assert_eq!(table(&Distribution::Uniform), None);
    }

    #[test]
    fn the_normal_one_is_symmetric_and_has_the_quantiles_of_the_books() {
        let table = table(&Distribution::Normal).unwrap();
        for (chance, deviations) in [(0.5, 0.0), (0.841_345, 1.0), (0.977_25, 2.0), (0.998_650, 3.0)] {
            let entry = f64::from(table[(chance * ENTRIES as f64) as usize]) / SCALE;
            assert!((entry - deviations).abs() < 0.02, "{chance}: {entry}");
        }
        for (low, high) in table.iter().zip(table.iter().rev()) {
            assert!((i32::from(*low) + i32::from(*high)).abs() < 40, "{low} {high}");
        }
    }

    #[test]
    fn paretos_tail_is_above() {
        let skew = |distribution| {
            let table = table(&distribution).unwrap();
            table.iter().map(|entry| (f64::from(*entry) / SCALE).powi(3)).sum::<f64>() / table.len() as f64
        };
        assert!(skew(Distribution::Normal).abs() < 0.05);
        assert!(skew(Distribution::Pareto) > 1.0);
        assert!(skew(Distribution::ParetoNormal) > 0.8);
    }

    #[test]
    fn a_file_of_tc_is_read() {
        assert_eq!(
            read_table("# a comment\n-32768 -5\n\t0 7 32767 # end\n").unwrap(),
            [-32768, -5, 0, 7, 32767]
        );
        assert_eq!(read_table("# nothing\n"), Err(DistributionError::Empty));
        let wrong = DistributionError::Number { line: 2, word: "32768".into() };
        assert_eq!(read_table("1\n2 32768"), Err(wrong));
        assert_eq!(read_table(&"1 ".repeat(MOST + 1)), Err(DistributionError::TooLong));
        assert_eq!(read_table(&"1 ".repeat(MOST)).unwrap().len(), MOST);
    }

    proptest! {
        #[test]
        fn arbitrary_text_is_no_panic(text: String) {
            let _ = read_table(&text);
        }
    }
}
