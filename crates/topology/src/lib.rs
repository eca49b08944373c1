//! The snapshot of a machine: its targets, their network namespaces, the links in them, and how they hang together.
//!
//! The world is read once ([`Surveyor::take`]); everything that is shown or asked afterwards is a pure function over
//! that value, which can be printed, stored, sent over a pipe and fed to a test. [`locate`] is the short way for one
//! target that is about to be entered: the same rules, without the links.

mod askers;
mod collect;
mod error;
mod join;
mod listeners;
pub mod locate;
mod processes;
mod proof;
mod snapshot;
pub mod which;

pub use collect::{Survey, Surveyor};
pub use error::{Error, Result};
pub use snapshot::{
    Address, Bridge, Inmate, Link, LinkRef, Listener, Namespace, Peer, SCHEMA, Snapshot, Target,
    is_loopback_only,
};
