//! An impairment in netem's words.

use snorkel_rtnl::{Netem, NetemLoss};

use crate::emulation::table;
use crate::impairment::{Impairment, Loss};

/// The options that make netem do the same as [`crate::emulation::Emulation`].
pub(super) fn options(impairment: &Impairment) -> Netem {
    let loss = match impairment.loss {
        None => NetemLoss::default(),
        Some(Loss::Random(likely)) => {
            NetemLoss::Random { chance: likely.chance.scaled(), correlation: likely.correlation.scaled() }
        }
        Some(Loss::Gemodel { p, r, lost_in_bad, lost_in_good }) => NetemLoss::Gemodel {
            p: p.scaled(),
            r: r.scaled(),
            h: u32::MAX - lost_in_bad.scaled(),
            k1: lost_in_good.scaled(),
        },
    };
    let reorder = impairment.reorder;
    Netem {
        delay: impairment.delay,
        jitter: impairment.jitter,
        delay_correlation: impairment.delay_correlation.scaled(),
        distribution: table(&impairment.distribution).filter(|_| !impairment.jitter.is_zero()),
        limit: impairment.queue_limit(),
        loss,
        duplicate: impairment.duplicate.chance.scaled(),
        duplicate_correlation: impairment.duplicate.correlation.scaled(),
        gap: reorder.map_or(0, |reorder| reorder.gap.max(1)),
        reorder: reorder.map_or(0, |reorder| reorder.likely.chance.scaled()),
        reorder_correlation: reorder.map_or(0, |reorder| reorder.likely.correlation.scaled()),
        corrupt: impairment.corrupt.chance.scaled(),
        corrupt_correlation: impairment.corrupt.correlation.scaled(),
        rate: impairment.rate.unwrap_or(0),
        seed: Some(impairment.seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::impairment::{Chance, Distribution, Likely, Reorder};
    use std::time::Duration;

    #[test]
    fn every_parameter_has_its_place() {
        let chance = |probability| Chance::new(probability).unwrap();
        let likely = |a, b| Likely { chance: chance(a), correlation: chance(b) };
        let impairment = Impairment {
            delay: Duration::from_millis(1),
            jitter: Duration::from_millis(2),
            delay_correlation: chance(1.0),
            distribution: Distribution::Table(vec![3]),
            loss: Some(Loss::Random(likely(0.0, 1.0))),
            duplicate: likely(1.0, 0.0),
            reorder: Some(Reorder { likely: likely(1.0, 0.0), gap: 5 }),
            corrupt: likely(0.0, 1.0),
            rate: Some(6),
            limit: Some(7),
            seed: 8,
        };
        const ALL: u32 = u32::MAX;
        let wanted = Netem {
            delay: Duration::from_millis(1),
            jitter: Duration::from_millis(2),
            delay_correlation: ALL,
            distribution: Some(vec![3]),
            limit: 7,
            loss: NetemLoss::Random { chance: 0, correlation: ALL },
            duplicate: ALL,
            duplicate_correlation: 0,
            gap: 5,
            reorder: ALL,
            reorder_correlation: 0,
            corrupt: 0,
            corrupt_correlation: ALL,
            rate: 6,
            seed: Some(8),
        };
        assert_eq!(options(&impairment), wanted);
    }

    #[test]
    fn a_model_of_bursts_is_told_by_what_is_kept_in_the_bad_state() {
        let chance = |probability| Chance::new(probability).unwrap();
        let loss = Loss::Gemodel {
            p: chance(1.0),
            r: chance(0.0),
            lost_in_bad: chance(1.0),
            lost_in_good: chance(0.0),
        };
        let wanted = NetemLoss::Gemodel { p: u32::MAX, r: 0, h: 0, k1: 0 };
        assert_eq!(options(&Impairment { loss: Some(loss), ..Impairment::default() }).loss, wanted);
    }
}
