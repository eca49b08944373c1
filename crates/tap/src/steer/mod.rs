//! Connections are brought here, and whom they are meant for is reached past oneself.
//!
//! Those to a port of a network namespace: a program in the namespace's look-up of listening sockets gives new
//! connections to a socket that listens on an ephemeral port of the loopback (`snorkel_bpf::tap`). The tap's own
//! connections go to the very address that the client meant, so that they find the same socket as the client would have;
//! they are told from others by their source, which is noted before they are opened. Where nobody listens the program
//! does nothing, and the kernel refuses.
//!
//! Datagrams to a port, in the same way, see [`Datagrams`].
//!
//! Those that processes of the namespace open to somebody else: a table of nftables, see [`Outbound`].

mod claim;
mod datagrams;
mod inbound;
mod listening;
mod option;
mod outbound;
mod sources;
mod syn;

pub use datagrams::Datagrams;
pub use inbound::{Door, Inbound, Notes};
pub use outbound::{Outbound, Peer};
