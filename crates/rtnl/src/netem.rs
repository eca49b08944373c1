//! netem's options (tc-netem(8)) as the kernel takes them and tells them.
//!
//! `struct tc_netem_qopt` and the attributes `TCA_NETEM_*` of linux/pkt_sched.h; what the kernel makes of them is in
//! net/sched/sch_netem.c (`netem_change`, `netem_dump`). Chances are shares of `u32::MAX`.

use std::time::Duration;

use crate::parse::Refusal;
use crate::qdisc::words;
use crate::wire::{Malformed, Request, attributes, take};

const TCA_NETEM_CORR: u16 = 1;
const TCA_NETEM_DELAY_DIST: u16 = 2;
const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_LOSS: u16 = 5;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const TCA_NETEM_PRNG_SEED: u16 = 14;
const NETEM_LOSS_GE: u16 = 2;
/// A tick of the packet scheduler is 64 nanoseconds (`PSCHED_SHIFT`).
const TICK_BITS: u32 = 6;

/// Options of a netem qdisc. The default passes everything on, and holds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Netem {
    /// Added to each packet.
    pub delay: Duration,
    /// The standard deviation, or half the width of an even spread; netem cuts it at `i32::MAX` nanoseconds.
    pub jitter: Duration,
    /// How much a delay takes from the one before.
    pub delay_correlation: u32,
    /// The spread's inverse distribution function, in 1/8192 of the jitter; even if none. The kernel never tells it.
    pub distribution: Option<Vec<i16>>,
    /// How many packets it holds at most.
    pub limit: u32,
    /// How packets are lost.
    pub loss: NetemLoss,
    /// How often a packet is doubled.
    pub duplicate: u32,
    /// How much that takes from the draw before.
    pub duplicate_correlation: u32,
    /// Every how many packets one may overtake; 0: none does.
    pub gap: u32,
    /// How often one that may, does.
    pub reorder: u32,
    /// How much that takes from the draw before.
    pub reorder_correlation: u32,
    /// How often a bit is turned.
    pub corrupt: u32,
    /// How much that takes from the draw before.
    pub corrupt_correlation: u32,
    /// Bytes per second; 0: no limit.
    pub rate: u64,
    /// Where chance begins; kernels before 6.6 know none, pass over it, and tell none.
    pub seed: Option<u64>,
}

/// How netem loses packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetemLoss {
    /// By chance.
    Random {
        /// How often.
        chance: u32,
        /// How much that takes from the draw before.
        correlation: u32,
    },
    /// After Gilbert and Elliott; `struct tc_netem_gemodel`.
    Gemodel {
        /// From good to bad.
        p: u32,
        /// From bad to good.
        r: u32,
        /// Kept in the bad state.
        h: u32,
        /// Lost in the good state.
        k1: u32,
    },
}

impl Default for NetemLoss {
    fn default() -> Self {
        NetemLoss::Random { chance: 0, correlation: 0 }
    }
}

impl Netem {
    /// Whether these options, read from the kernel, are those that were `asked` for: all but the distribution, which is never
    /// told, and the seed where none is.
    pub fn fulfils(&self, asked: &Netem) -> bool {
        let visible = Netem {
            distribution: None,
            jitter: asked.jitter.min(Duration::from_nanos(i32::MAX as u64)),
            seed: asked.seed.filter(|_| self.seed.is_some()),
            ..asked.clone()
        };
        let told =
            Netem { distribution: None, seed: self.seed.filter(|_| asked.seed.is_some()), ..self.clone() };
        told == visible
    }

    /// The value of `TCA_OPTIONS`.
    pub(crate) fn put(&self, options: &mut Request) {
        let nanoseconds =
            |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(i64::MAX as u64);
        let ticks = |time| u32::try_from(nanoseconds(time) >> TICK_BITS).unwrap_or(u32::MAX);
        let (loss, loss_correlation) = match self.loss {
            NetemLoss::Random { chance, correlation } => (chance, correlation),
            NetemLoss::Gemodel { .. } => (0, 0),
        };
        let fixed = [ticks(self.delay), self.limit, loss, self.gap, self.duplicate, ticks(self.jitter)];
        options.raw(&words(fixed));
        options.put(
            TCA_NETEM_CORR,
            &words([self.delay_correlation, loss_correlation, self.duplicate_correlation]),
        );
        options.put(TCA_NETEM_REORDER, &words([self.reorder, self.reorder_correlation]));
        options.put(TCA_NETEM_CORRUPT, &words([self.corrupt, self.corrupt_correlation]));
        if let NetemLoss::Gemodel { p, r, h, k1 } = self.loss {
            options.nest(TCA_NETEM_LOSS, |model| {
                model.put(NETEM_LOSS_GE, &words([p, r, h, k1]));
            });
        }
        // struct tc_netem_rate: with nothing added to a packet, and no cells.
        options.put(TCA_NETEM_RATE, &words([u32::try_from(self.rate).unwrap_or(u32::MAX), 0, 0, 0]));
        if self.rate > u64::from(u32::MAX) {
            options.put(TCA_NETEM_RATE64, &self.rate.to_ne_bytes());
        }
        options.put(TCA_NETEM_LATENCY64, &nanoseconds(self.delay).to_ne_bytes());
        options.put(TCA_NETEM_JITTER64, &nanoseconds(self.jitter).to_ne_bytes());
        if let Some(seed) = self.seed {
            options.put(TCA_NETEM_PRNG_SEED, &seed.to_ne_bytes());
        }
        if let Some(table) = &self.distribution {
            let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_ne_bytes()).collect();
            options.put(TCA_NETEM_DELAY_DIST, &bytes);
        }
    }

    /// From the value of `TCA_OPTIONS`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Netem, Refusal> {
        let (fixed, rest) = numbers::<6>(bytes)?;
        let [latency, limit, chance, gap, duplicate, jitter] = fixed;
        let time = |ticks: u32| Duration::from_nanos(u64::from(ticks) << TICK_BITS);
        let mut netem =
            Netem { delay: time(latency), jitter: time(jitter), limit, gap, duplicate, ..Netem::default() };
        let mut random = (chance, 0);
        let mut model = None;
        let (mut rate, mut rate64) = (0, None);
        for attribute in attributes(rest) {
            let attribute = attribute?;
            let value = attribute.payload;
            match attribute.kind {
                TCA_NETEM_CORR => {
                    [netem.delay_correlation, random.1, netem.duplicate_correlation] = numbers::<3>(value)?.0;
                }
                TCA_NETEM_REORDER => [netem.reorder, netem.reorder_correlation] = numbers::<2>(value)?.0,
                TCA_NETEM_CORRUPT => [netem.corrupt, netem.corrupt_correlation] = numbers::<2>(value)?.0,
                TCA_NETEM_LOSS => {
                    for inner in attribute.nested() {
                        let inner = inner?;
                        if inner.kind == NETEM_LOSS_GE {
                            let [p, r, h, k1] = numbers::<4>(inner.payload)?.0;
                            model = Some(NetemLoss::Gemodel { p, r, h, k1 });
                        }
                    }
                }
                TCA_NETEM_RATE => rate = numbers::<4>(value)?.0[0],
                TCA_NETEM_RATE64 => rate64 = Some(long(value)?),
                TCA_NETEM_LATENCY64 => netem.delay = Duration::from_nanos(long(value)?),
                TCA_NETEM_JITTER64 => netem.jitter = Duration::from_nanos(long(value)?),
                TCA_NETEM_PRNG_SEED => netem.seed = Some(long(value)?),
                _ => (),
            }
        }
        netem.loss = model.unwrap_or(NetemLoss::Random { chance: random.0, correlation: random.1 });
        netem.rate = rate64.unwrap_or(u64::from(rate));
        Ok(netem)
    }
}

/// The first numbers of 32 bits, and what is behind them.
fn numbers<const N: usize>(bytes: &[u8]) -> Result<([u32; N], &[u8]), Malformed> {
    let mut rest = bytes;
    let mut numbers = [0; N];
    for number in &mut numbers {
        let (first, behind) = take::<4>(rest, "netem's options end within a structure")?;
        *number = u32::from_ne_bytes(first);
        rest = behind;
    }
    Ok((numbers, rest))
}

fn long(bytes: &[u8]) -> Result<u64, Malformed> {
    take::<8>(bytes, "a number of 64 bits has the wrong length").map(|(bytes, _)| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(netem: &Netem) -> Vec<u8> {
        let mut request = Request::new(0, 0);
        request.nest(libc::TCA_OPTIONS, |options| netem.put(options));
        request.with_sequence(1)[20..].to_vec()
    }

    /// The layout of linux/pkt_sched.h, spelt out once more.
    #[test]
    fn the_bytes_are_those_of_the_header() {
        let netem = Netem {
            delay: Duration::from_millis(100),
            jitter: Duration::from_millis(10),
            delay_correlation: 1,
            distribution: Some(vec![-1, 2]),
            limit: 1234,
            loss: NetemLoss::Random { chance: 5, correlation: 6 },
            duplicate: 7,
            duplicate_correlation: 8,
            gap: 9,
            reorder: 10,
            reorder_correlation: 11,
            corrupt: 12,
            corrupt_correlation: 13,
            rate: 5_000_000_000,
            seed: Some(42),
        };
        let attribute = |kind: u16, payload: &[u8]| {
            let length = (payload.len() + 4) as u16;
            let mut bytes = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), payload].concat();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let wanted = [
            words([1_562_500, 1234, 5, 9, 7, 156_250]),
            attribute(1, &words([1, 6, 8])),
            attribute(3, &words([10, 11])),
            attribute(4, &words([12, 13])),
            attribute(6, &words([u32::MAX, 0, 0, 0])),
            attribute(8, &5_000_000_000u64.to_ne_bytes()),
            attribute(10, &100_000_000u64.to_ne_bytes()),
            attribute(11, &10_000_000u64.to_ne_bytes()),
            attribute(14, &42u64.to_ne_bytes()),
            attribute(2, &[(-1i16).to_ne_bytes(), 2i16.to_ne_bytes()].concat()),
        ]
        .concat();
        assert_eq!(encoded(&netem), wanted);
        let model = Netem { loss: NetemLoss::Gemodel { p: 1, r: 2, h: 3, k1: 4 }, ..Netem::default() };
        let nested = attribute(5, &attribute(2, &words([1, 2, 3, 4])));
        assert!(encoded(&model).windows(nested.len()).any(|bytes| bytes == nested));
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_not_missed() {
        let asked = Netem { distribution: Some(vec![1]), seed: Some(5), ..Netem::default() };
        assert!(Netem::default().fulfils(&asked));
        assert!(Netem { seed: Some(5), ..Netem::default() }.fulfils(&asked));
        assert!(!Netem { seed: Some(6), ..Netem::default() }.fulfils(&asked));
        assert!(!Netem { limit: 1, ..Netem::default() }.fulfils(&asked));
        let long = Netem { jitter: Duration::from_secs(10), ..Netem::default() };
        assert!(Netem { jitter: Duration::from_nanos(i32::MAX as u64), ..Netem::default() }.fulfils(&long));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            delay in 0..i64::MAX as u64, jitter in 0..i32::MAX as u64,
            n in prop::array::uniform12(any::<u32>()),
            gemodel: bool, rate: u64, seed: Option<u64>,
        ) {
            let loss = if gemodel {
                NetemLoss::Gemodel { p: n[0], r: n[1], h: n[2], k1: n[3] }
            } else {
                NetemLoss::Random { chance: n[0], correlation: n[1] }
            };
            let netem = Netem {
                delay: Duration::from_nanos(delay),
                jitter: Duration::from_nanos(jitter),
                delay_correlation: n[2], distribution: None, limit: n[3], loss,
                duplicate: n[4], duplicate_correlation: n[5], gap: n[6], reorder: n[7],
                reorder_correlation: n[8], corrupt: n[9], corrupt_correlation: n[10], rate, seed,
            };
            let read = Netem::parse(&encoded(&netem)).unwrap();
            prop_assert!(read.fulfils(&netem));
            prop_assert_eq!(read, netem);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes: Vec<u8>) {
            let _ = Netem::parse(&bytes);
        }
    }
}
