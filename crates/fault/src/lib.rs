//! Disturbances of a target's network, made from outside and taken back by the kernel when their process ends.
//!
//! Drops are decided by a program at the far end of the target's link; packets that are to be delayed, lost, doubled,
//! reordered, damaged or slowed are led through a *wire*, a private veth pair that goes with the process that holds it.

pub mod emulation;
mod impairment;

pub use impairment::{Chance, Distribution, Impairment, Likely, Loss, Reorder};
