//! What netem does to packets, as functions that know no clock and no socket: time is an argument.
//!
//! The order in which chance is drawn, and how a draw becomes a decision, are netem's own, so that the same seed gives
//! the same packets the same fate, whether the kernel carries an impairment out or snorkel does. The facts are from the
//! kernel's net/sched/sch_netem.c (`netem_enqueue`, `loss_event`, `tabledist`, `get_crandom`) and tc-netem(8); the seed is
//! `TCA_NETEM_PRNG_SEED`, since 6.6. Two things the kernel draws from its entropy pool whatever the seed: the value that a
//! correlated draw begins with, and which bit of a damaged packet is turned. Here they come from the seed, too.

mod distribution;
mod fate;
mod prng;
mod queue;
#[cfg(test)]
mod tests;

pub use distribution::{DistributionError, read_table, table};
pub use fate::{Copy, Emulation, Fate, Packet};
pub use prng::Prng;
pub use queue::TimeQueue;

use std::time::Duration;

/// A moment, in nanoseconds since some beginning that is the same for all of them (`CLOCK_MONOTONIC`'s, mostly).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// How long it is from `earlier` until this one; nothing if that is later.
    pub fn since(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
