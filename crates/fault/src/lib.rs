//! Disturbances of a target's network, made from outside and taken back by the kernel when their process ends.
//!
//! Drops are decided by a program at the far end of the target's link; packets that are to be delayed, lost, doubled,
//! reordered, damaged or slowed are led through a *wire*, a private veth pair that goes with the process that holds it.
//! Two things the kernel does not take back: a link that is set down, and without tcx (before 6.6) filters, which do
//! nothing any more. They are written down first, and a second process watches over the first.
//!
//! [`plan`] says purely what is to be done, [`force`] does it and takes it back, [`control`] is how others find it.

pub mod carrier;
pub mod control;
pub mod dns;
pub mod emulation;
mod error;
pub mod filters;
pub mod findings;
pub mod force;
pub mod guardian;
mod id;
mod impairment;
pub mod journal;
pub mod orphans;
pub mod parse;
mod part;
pub mod plan;
pub mod profile;
pub mod rule;
mod stage;
pub mod wire;

pub use error::{Error, Result};
pub use id::FaultId;
pub use impairment::{Chance, Distribution, Impairment, Likely, Loss, Reorder};
