//! What the emulation does to many packets, counted: bounds are those within which chance stays 999 times in 1000.

use std::time::Duration;

use super::{Emulation, Fate, Moment, Packet, Prng};
use crate::impairment::{Chance, Distribution, Impairment, Likely, Loss, Reorder};
use proptest::prelude::*;

const MANY: usize = 200_000;

fn chance(probability: f64) -> Chance {
    Chance::new(probability).unwrap()
}

fn likely(probability: f64, correlation: f64) -> Likely {
    Likely { chance: chance(probability), correlation: chance(correlation) }
}

/// The fates of packets of 1000 bytes that come a microsecond after each other and find nothing waiting.
fn fates(impairment: &Impairment, count: usize) -> Vec<Fate> {
    let mut emulation = Emulation::new(impairment);
    let packet = |number| Packet { arrival: Moment(1_000_000_000 + number as u64 * 1000), length: 1000 };
    (0..count).map(|number| emulation.arrive(packet(number), 0)).collect()
}

/// Delays in milliseconds.
fn delays(impairment: &Impairment) -> Vec<f64> {
    let delay = |(number, fate): (usize, Fate)| {
        let due = fate.copies[0].unwrap().due.0;
        (due as f64 - (1_000_000_000 + number as u64 * 1000) as f64) / 1e6
    };
    fates(impairment, MANY).into_iter().enumerate().map(delay).collect()
}

/// Whether a count of so many trials is within the 99.9 % bounds of the binomial distribution.
fn within(count: usize, trials: usize, probability: f64) -> bool {
    let mean = trials as f64 * probability;
    let deviation = (mean * (1.0 - probability)).sqrt();
    (count as f64 - mean).abs() <= 3.291 * deviation
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

#[test]
fn as_many_are_lost_as_was_asked_for() {
    for probability in [0.01, 0.1, 0.5, 1.0] {
        for seed in [0, 1, 4711, u64::MAX] {
            let loss = Some(Loss::Random(likely(probability, 0.0)));
            let lost = fates(&Impairment { loss, seed, ..Impairment::default() }, MANY)
                .iter()
                .filter(|fate| fate.lost == 1)
                .count();
            assert!(within(lost, MANY, probability), "{probability} {seed}: {lost}");
        }
    }
}

#[test]
fn doubled_damaged_and_overtaking_ones_too() {
    for probability in [0.01, 0.1, 0.5] {
        let impairment = Impairment {
            delay: Duration::from_millis(1),
            duplicate: likely(probability, 0.0),
            corrupt: likely(probability, 0.0),
            reorder: Some(Reorder { likely: likely(probability, 0.0), gap: 1 }),
            seed: 7,
            ..Impairment::default()
        };
        let fates = fates(&impairment, MANY);
        let copies: Vec<_> = fates.iter().flat_map(|fate| fate.copies.iter().flatten()).collect();
        let doubled = fates.iter().filter(|fate| fate.duplicated).count();
        let damaged = copies.iter().filter(|copy| copy.corrupted.is_some()).count();
        let overtaking = copies.iter().filter(|copy| copy.overtakes).count();
        assert!(within(doubled, MANY, probability), "{probability}: {doubled}");
        assert_eq!(copies.len(), MANY + doubled);
        assert!(within(damaged, copies.len(), probability), "{probability}: {damaged}");
        assert!(within(overtaking, copies.len(), probability), "{probability}: {overtaking}");
    }
}

#[test]
fn damaged_bits_are_spread_over_the_whole_packet() {
    let fates = fates(&Impairment { corrupt: likely(1.0, 0.0), ..Impairment::default() }, MANY);
    let mut tenths = [0; 10];
    for fate in fates {
        let bit = fate.copies[0].unwrap().corrupted.unwrap();
        tenths[bit as usize / 800] += 1;
    }
    assert!(tenths.iter().all(|count| within(*count, MANY, 0.1)), "{tenths:?}");
}

#[test]
fn a_gap_lets_one_in_so_many_overtake() {
    let reorder = Some(Reorder { likely: likely(1.0, 0.0), gap: 5 });
    let fates = fates(&Impairment { delay: Duration::from_millis(1), reorder, ..Impairment::default() }, 20);
    let overtaking: Vec<usize> =
        (0..20).filter(|number| fates[*number].copies[0].unwrap().overtakes).collect();
    assert_eq!(overtaking, [4, 9, 14, 19]);
}

#[test]
fn delays_have_mean_and_deviation_as_asked_for() {
    let uniform = 1.0 / 3f64.sqrt();
    let shapes = [
        (Distribution::Uniform, uniform),
        (Distribution::Normal, 1.0),
        (Distribution::Pareto, 1.0),
        (Distribution::ParetoNormal, 1.0),
    ];
    for (distribution, deviation) in shapes {
        let impairment = Impairment {
            delay: Duration::from_millis(100),
            jitter: Duration::from_millis(20),
            distribution: distribution.clone(),
            seed: 3,
            ..Impairment::default()
        };
        let (mean, got) = mean_and_deviation(&delays(&impairment));
        assert!((mean - 100.0).abs() < 0.3, "{distribution:?}: {mean}");
        assert!((got / (20.0 * deviation) - 1.0).abs() < 0.02, "{distribution:?}: {got}");
    }
}

/// netem takes the remainder of a draw, so that a correlation shows in delays only where the jitter is not far from the
/// largest there is.
#[test]
fn correlated_delays_follow_each_other() {
    let correlation = |asked| {
        let impairment = Impairment {
            delay: Duration::from_secs(5),
            jitter: Duration::from_nanos(i32::MAX as u64),
            delay_correlation: chance(asked),
            seed: 3,
            ..Impairment::default()
        };
        let delays = delays(&impairment);
        let (mean, deviation) = mean_and_deviation(&delays);
        let together: f64 = delays.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum();
        together / delays.len() as f64 / deviation.powi(2)
    };
    for asked in [0.0, 0.25, 0.5, 0.75] {
        assert!((correlation(asked) - asked).abs() < 0.02, "{asked}: {}", correlation(asked));
    }
}

#[test]
fn bursts_after_gilbert_and_elliott_are_as_long_as_the_model_says() {
    let (p, r) = (0.02, 0.25);
    let loss =
        Loss::Gemodel { p: chance(p), r: chance(r), lost_in_bad: chance(1.0), lost_in_good: chance(0.0) };
    let fates = fates(&Impairment { loss: Some(loss), seed: 11, ..Impairment::default() }, MANY);
    let lost: Vec<bool> = fates.iter().map(|fate| fate.lost == 1).collect();
    let count = lost.iter().filter(|lost| **lost).count();
    let bursts = lost.chunk_by(|a, b| a == b).filter(|burst| burst[0]).count();
    let length = count as f64 / bursts as f64;
    // A burst ends with chance r at each packet: geometric, of mean 1/r. The share of bad packets is p/(p+r).
    assert!((length * r - 1.0).abs() < 0.05, "{length}");
    assert!((count as f64 / MANY as f64 / (p / (p + r)) - 1.0).abs() < 0.05, "{count}");
}

#[test]
fn losses_that_are_correlated_come_together() {
    let pairs = |correlation| {
        let loss = Some(Loss::Random(likely(0.3, correlation)));
        let fates = fates(&Impairment { loss, seed: 5, ..Impairment::default() }, MANY);
        let lost = fates.iter().filter(|fate| fate.lost == 1).count();
        let pairs = fates.windows(2).filter(|pair| pair[0].lost == 1 && pair[1].lost == 1).count();
        // How much likelier a loss is behind another one.
        (pairs as f64 / lost as f64) / (lost as f64 / MANY as f64)
    };
    assert!((pairs(0.0) - 1.0).abs() < 0.05, "{}", pairs(0.0));
    assert!(pairs(0.5) > 1.5, "{}", pairs(0.5));
}

#[test]
fn a_rate_is_the_time_from_packet_to_packet() {
    let rate = Some(1_000_000);
    let impairment = Impairment { rate, delay: Duration::from_millis(50), ..Impairment::default() };
    let fates = fates(&impairment, 100);
    let dues: Vec<u64> = fates.iter().map(|fate| fate.copies[0].unwrap().due.0).collect();
    // 1000 bytes at a megabyte a second: a millisecond; they come faster. The first begins after its delay.
    assert_eq!(dues[0], 1_000_000_000 + 50_000_000 + 1_000_000);
    assert!(dues.windows(2).all(|pair| pair[1] - pair[0] == 1_000_000));
}

#[test]
fn the_draws_are_those_of_netem_in_netems_order() {
    let impairment = Impairment {
        delay: Duration::from_millis(100),
        jitter: Duration::from_millis(10),
        loss: Some(Loss::Random(likely(0.25, 0.0))),
        duplicate: likely(0.25, 0.0),
        corrupt: likely(0.25, 0.0),
        reorder: Some(Reorder { likely: likely(0.25, 0.0), gap: 1 }),
        seed: 42,
        ..Impairment::default()
    };
    let quarter = chance(0.25).scaled();
    let mut prng = Prng::seeded(42);
    // Written down once more, straight from the description: what a packet takes from the generator, and when.
    fn tail(prng: &mut Prng, quarter: u32) -> (bool, u64) {
        if quarter >= prng.draw() {
            return (true, 0);
        }
        (false, u64::from(prng.draw() % 20_000_000) + 90_000_000)
    }
    for (number, fate) in fates(&impairment, 2000).into_iter().enumerate() {
        let arrival = 1_000_000_000 + number as u64 * 1000;
        let doubled = quarter >= prng.draw();
        let lost = quarter >= prng.draw();
        if lost && !doubled {
            assert_eq!((fate.lost, fate.copies), (1, [None; 2]), "{number}");
            continue;
        }
        let damaged = quarter >= prng.draw();
        let mut wanted = Vec::new();
        if doubled && !lost {
            let lost = quarter >= prng.draw();
            if !lost {
                let damaged = quarter >= prng.draw();
                wanted.push((damaged, tail(&mut prng, quarter)));
            }
        }
        wanted.push((damaged, tail(&mut prng, quarter)));
        let got: Vec<_> = fate
            .copies
            .iter()
            .flatten()
            .map(|copy| (copy.corrupted.is_some(), (copy.overtakes, copy.due.0 - arrival)))
            .collect();
        assert_eq!(got, wanted, "{number}");
    }
}

#[test]
fn what_finds_the_queue_full_is_dropped_and_counted() {
    let mut emulation = Emulation::new(&Impairment { limit: Some(3), ..Impairment::default() });
    let packet = Packet { arrival: Moment(1), length: 100 };
    assert!(emulation.arrive(packet, 2).copies[0].is_some());
    assert_eq!(emulation.arrive(packet, 3), Fate { no_room: 1, ..Fate::default() });
}

/// The generator's first numbers: whoever changes them changes what every seed means.
#[test]
fn the_first_numbers_of_known_seeds_stay() {
    let first = |seed| {
        let mut prng = Prng::seeded(seed);
        [prng.draw(), prng.draw(), prng.draw(), prng.draw()]
    };
    assert_eq!(first(0), PINNED[0], "{:?}", first(0));
    assert_eq!(first(1), PINNED[1], "{:?}", first(1));
    assert_eq!(first(0x1234_5678_9abc_def0), PINNED[2], "{:?}", first(0x1234_5678_9abc_def0));
}

const PINNED: [[u32; 4]; 3] = [
    [1_574_944, 268_744, 1_109_394_980, 8_552_980],
    [276_959_246, 18_909_696, 2_298_495_022, 9_442_690],
    [1_565_990_206, 3_253_438_099, 3_391_650_309, 307_209_238],
];

proptest! {
    #[test]
    fn the_same_seed_has_the_same_fates_and_the_sums_are_right(
        seed: u64,
        chances in prop::array::uniform4(0.0..=1.0f64),
        correlations in prop::array::uniform4(0.0..=1.0f64),
        delay in 0u64..1_000_000_000,
        jitter in 0u64..3_000_000_000,
        rate in prop::option::of(0u64..1_000_000_000),
        gap in 0u32..10,
        waiting in prop::collection::vec(0usize..20, 50),
    ) {
        let impairment = Impairment {
            delay: Duration::from_nanos(delay),
            jitter: Duration::from_nanos(jitter),
            delay_correlation: chance(correlations[0]),
            distribution: Distribution::Pareto,
            loss: Some(Loss::Random(likely(chances[0], correlations[1]))),
            duplicate: likely(chances[1], correlations[2]),
            corrupt: likely(chances[2], correlations[3]),
            reorder: (gap > 0).then(|| Reorder { likely: likely(chances[3], correlations[0]), gap }),
            rate,
            limit: Some(10),
            seed,
        };
        let (mut one, mut other) = (Emulation::new(&impairment), Emulation::new(&impairment));
        for (number, waiting) in waiting.into_iter().enumerate() {
            let packet = Packet { arrival: Moment(number as u64 * 1_000_000), length: 1 + number as u32 };
            let fate = one.arrive(packet, waiting);
            prop_assert_eq!(fate, other.arrive(packet, waiting));
            for copy in fate.copies.iter().flatten().filter(|copy| !copy.overtakes) {
                let least = one.least_delay().as_nanos() as u64;
                prop_assert!(least == 0 || copy.due.0 >= packet.arrival.0 + least);
            }
            let copies = fate.copies.iter().flatten().count();
            prop_assert_eq!(1 + usize::from(fate.duplicated), copies + usize::from(fate.lost + fate.no_room));
            for copy in fate.copies.iter().flatten() {
                prop_assert!(copy.corrupted.is_none_or(|bit| bit < packet.length * 8));
                if rate.is_some_and(|rate| rate > 0) && !copy.overtakes {
                    prop_assert!(copy.due >= packet.arrival);
                }
            }
        }
    }
}
