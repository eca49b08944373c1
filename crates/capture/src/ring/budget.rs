//! How much memory the rings get together, and into what blocks a ring's share is cut. Pure.
//!
//! A packet lies in one block as a whole: a block must hold the largest, which with segmentation offload is 64 KiB, and
//! more with BIG TCP. Three of the former fit into 256 KiB. Larger blocks waste less and wake the reader less often;
//! but the reader gets a block only when it is full or its time is up, so a ring needs several.

use std::time::Duration;

use super::{Error, Result};

const KIB: usize = 1024;
/// The smallest block: see the module's paragraph.
const SMALLEST_BLOCK: usize = 256 * KIB;
/// The largest block.
const LARGEST_BLOCK: usize = 1024 * KIB;
/// A larger block is taken if so many of them fit.
const ENOUGH_BLOCKS: usize = 8;
/// One block is being filled while the other is being read.
const FEWEST_BLOCKS: usize = 2;

/// The memory of all rings of a capture together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes.
    pub total: usize,
}

impl Default for Budget {
    /// 64 MiB.
    fn default() -> Self {
        Budget { total: 64 * KIB * KIB }
    }
}

impl Budget {
    /// The smallest ring, in bytes.
    pub const LEAST: usize = FEWEST_BLOCKS * SMALLEST_BLOCK;

    /// The largest ring, in bytes, but for a block: the kernel counts them in 32 bits.
    pub const MOST: usize = 4 << 30;

    /// What each of so many rings gets, in bytes. Where more links may join later, they are to be counted too.
    pub fn share(&self, links: usize) -> Result<usize> {
        let share = self.total / links.max(1);
        if share < Budget::LEAST {
            let at_most = self.total / Budget::LEAST;
            return Err(Error::Budget { total: self.total, links, least: Budget::LEAST, at_most });
        }
        if share > Budget::MOST {
            return Err(Error::TooLarge {
                total: self.total,
                links,
                most: links.max(1).saturating_mul(Budget::MOST),
            });
        }
        Ok(share)
    }
}

/// How a ring is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Bytes of a block: a power of two, a multiple of the page size.
    pub(super) block: usize,
    /// How many there are.
    pub(super) count: usize,
}

impl Plan {
    /// The best that fits into so many bytes; the smallest ring there is if none does.
    pub(super) fn of(bytes: usize) -> Plan {
        let mut block = LARGEST_BLOCK;
        while block > SMALLEST_BLOCK && bytes / block < ENOUGH_BLOCKS {
            block /= 2;
        }
        // The kernel counts bytes of a ring in 32 bits.
        let most = (u32::MAX as usize) / block;
        Plan { block, count: (bytes / block).clamp(FEWEST_BLOCKS, most) }
    }

    /// The whole ring.
    pub(super) fn bytes(self) -> usize {
        self.block * self.count
    }

    /// How long the kernel may keep a block that is not full: so that all together last about a second, but no longer than
    /// goes unnoticed by who watches, and no shorter than is worth waking for.
    pub(super) fn retire(self) -> Duration {
        (Duration::from_secs(1) / u32::try_from(self.count).unwrap_or(u32::MAX))
            .clamp(Duration::from_millis(10), Duration::from_millis(60))
    }

    /// About half of it, to be tried where there was no memory for the whole; `None` if this is the smallest.
    pub(super) fn smaller(self) -> Option<Plan> {
        (self.bytes() > Budget::LEAST).then(|| Plan::of(self.bytes() / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: usize = KIB * KIB;

    #[test]
    fn the_default_for_one_link_and_for_fifty() {
        let budget = Budget::default();
        assert_eq!(Plan::of(budget.share(1).unwrap()), Plan { block: MIB, count: 64 });
        assert_eq!(Plan::of(budget.share(50).unwrap()), Plan { block: 256 * KIB, count: 5 });
        assert_eq!(Plan::of(budget.share(128).unwrap()), Plan { block: 256 * KIB, count: 2 });
        let error = budget.share(129).unwrap_err();
        assert_eq!(Plan::of(budget.share(1).unwrap()).retire().as_millis(), 15);
        assert_eq!(Plan::of(budget.share(50).unwrap()).retire().as_millis(), 60);
        assert!(matches!(error, Error::Budget { at_most: 128, .. }), "{error}");
        let huge = Budget { total: 10 << 30 };
        assert_eq!(huge.share(3).unwrap(), (10 << 30) / 3);
        let error = huge.share(2).unwrap_err();
        assert!(matches!(error, Error::TooLarge { most, .. } if most == 8 << 30), "{error}");
    }

    proptest! {
        #[test]
        fn a_plan_keeps_to_its_bytes_and_shrinks_to_the_smallest(bytes in 0usize..1 << 40) {
            let mut plan = Plan::of(bytes);
            prop_assert!(plan.bytes() <= bytes.max(Budget::LEAST));
            prop_assert!(u32::try_from(plan.bytes()).is_ok());
            while let Some(smaller) = plan.smaller() {
                prop_assert!(smaller.bytes() < plan.bytes());
                plan = smaller;
            }
            prop_assert_eq!(plan.bytes(), Budget::LEAST);
        }
    }
}
