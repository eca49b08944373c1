//! The ambassador: new connections to a port of any container are led through snorkel, shown, and spoilt if that is
//! wanted; with the process that does it everything is as it was.
//!
//! [`steer`] brings connections here and reaches the application; [`relay`] passes bytes on, [`datagram`] datagrams;
//! [`decode`] reads what is said; [`spoil`] makes it worse; [`event`] is what is told of it all, [`packets`] is what can
//! be kept of it.

pub mod datagram;
pub mod decode;
mod error;
pub mod event;
pub mod packets;
pub mod proxy;
pub mod relay;
pub mod spoil;
pub mod steer;
mod tap;

pub use error::{Error, Result};
pub use tap::{Control, Tap};
