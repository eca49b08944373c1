//! Packets from the kernel: one ring a link, many rings in a session, and an account of every packet.
//!
//! A ring is a packet socket with a buffer that it shares with the kernel (packet(7); the kernel's
//! Documentation/networking/packet_mmap.rst, version 3 of its ring). It is opened inside the link's network namespace
//! and read from anywhere. The kernel fills it block by block; a block belongs to the kernel or to the reader, never to
//! both. A [`Session`] waits for all rings at once and lends their packets, in order of time, straight out of the
//! blocks: no byte is copied between the kernel's copy and the writer's.
//!
//! ```no_run
//! use snorkel_capture::ring::{Budget, Link, Ring, Session, Settings, Turn};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let container = snorkel_netns::Netns::current()?;
//! let bytes = Budget::default().share(1)?;
//! let ring = Ring::open(&container, Link::Name("eth0"), &Settings { bytes, ..Settings::default() })?;
//! let mut session = Session::new()?;
//! session.add(ring)?;
//! loop {
//!     match session.next(None)? {
//!         Turn::Packets => println!("{} packets", session.packets().len()),
//!         Turn::Closed { ledger, .. } => println!("{} lost", ledger.dropped),
//!         Turn::Finished => break,
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! After a ring has been opened its reader needs no right at all: the loop is `epoll_pwait2`/`epoll_wait`,
//! `getsockopt` (PACKET_STATISTICS, SO_ERROR), `getsockname`, `bind` (to stop), `sendto` and `recvfrom` (to ask for the
//! link's counters), `clock_gettime`, `munmap` and `close`.
//!
//! An open ring keeps its network namespace alive, as every socket does: a namespace whose last process has gone stays
//! until its rings are closed, and the link with it. Whoever watches the processes says when that is ([`Session::stop`]).

mod block;
mod budget;
mod counters;
mod error;
mod ledger;
mod link;
mod mapping;
mod member;
mod priority;
mod program;
#[expect(clippy::module_inception, reason = "the ring itself is one file of the rings")]
mod ring;
mod session;
mod shifts;
mod socket;

pub use budget::Budget;
pub use counters::OnLink;
pub use error::{Error, Result};
pub use ledger::Ledger;
pub use link::Link;
pub use priority::{Priority, run_first};
pub use ring::{Handed, Ring, Settings, link_type};
pub use session::{LinkState, RingId, Session, Turn};
pub use shifts::Shifts;
