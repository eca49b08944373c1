//! The generator of chance: L'Ecuyer's combined Tausworthe generator of four components, and how netem seeds it.
//!
//! P. L'Ecuyer, "Tables of maximally equidistributed combined LFSR generators", Mathematics of Computation 68 (1999),
//! generator of 113 bits. The kernel has it as `prandom_u32_state`, and folds a seed of 64 bits into each component
//! (`prandom_seed_state` of linux/prandom.h, lib/random32.c). It is fast and well distributed, and no secret at all.

/// A component: `x` is kept but for its lowest bits (`mask`), and shifted three ways.
struct Component {
    feedback: u32,
    back: u32,
    mask: u32,
    forth: u32,
    /// Seeds below this would be lost by the mask.
    least: u32,
}

const COMPONENTS: [Component; 4] = [
    Component { feedback: 6, back: 13, mask: !1, forth: 18, least: 2 },
    Component { feedback: 2, back: 27, mask: !7, forth: 2, least: 8 },
    Component { feedback: 13, back: 21, mask: !15, forth: 7, least: 16 },
    Component { feedback: 3, back: 12, mask: !127, forth: 13, least: 128 },
];

/// A generator of numbers of 32 bits, all equally likely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prng([u32; 4]);

impl Prng {
    /// As netem's, seeded with this.
    pub fn seeded(seed: u64) -> Prng {
        // The upper half, and the lower with itself ten bits on: what is left of it in 32 bits.
        let folded = ((seed >> 32) ^ (seed << 10) ^ seed) as u32;
        Prng(COMPONENTS.map(
            |component| {
                if folded < component.least { folded + component.least } else { folded }
            },
        ))
    }

    /// The next number.
    pub fn draw(&mut self) -> u32 {
        let mut sum = 0;
        for (state, c) in self.0.iter_mut().zip(&COMPONENTS) {
            *state = ((*state & c.mask) << c.forth) ^ (((*state << c.feedback) ^ *state) >> c.back);
            sum ^= *state;
        }
        sum
    }
}

/// A seed for something beside the generator, so that it takes no draw from it: a step of splitmix64 (S. Vigna,
/// <https://prng.di.unimi.it/splitmix64.c>, public domain).
pub(super) fn aside(seed: u64, which: u64) -> u64 {
    let mut z = seed.wrapping_add((which + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator as such, against numbers that are published for it (lib/random32.c, `test1`): seeded by the
    /// congruences of the GNU Scientific Library, warmed up ten times.
    #[test]
    fn it_is_the_generator_of_113_bits() {
        let published = [(1u32, 3_484_351_685u32), (2, 2_623_130_059), (3, 3_125_133_893), (4, 984_847_254)];
        for (seed, first) in published {
            let mut before = seed;
            let mut prng = Prng(COMPONENTS.map(|component| {
                let next = before.wrapping_mul(69069);
                before = if next < component.least { next + component.least } else { next };
                before
            }));
            (0..10).for_each(|_| {
                prng.draw();
            });
            assert_eq!(prng.draw(), first, "{seed}");
        }
    }

    #[test]
    fn every_seed_leaves_every_component_alive() {
        for seed in [0, 1, 7, 127, 128, u64::MAX, 1 << 32, 1 << 63] {
            let mut prng = Prng::seeded(seed);
            let drawn: Vec<u32> = (0..64).map(|_| prng.draw()).collect();
            assert!(drawn[32..].iter().all(|value| *value != drawn[31]), "{seed}: {drawn:?}");
            assert!(prng.0.iter().all(|state| *state != 0), "{seed}");
        }
    }

    #[test]
    fn asides_differ_by_seed_and_by_what_they_are_for() {
        let all: std::collections::HashSet<u64> =
            (0..100).flat_map(|seed| (0..6).map(move |which| aside(seed, which))).collect();
        assert_eq!(all.len(), 600);
    }
}
