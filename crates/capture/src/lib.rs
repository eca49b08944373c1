//! Packets: where they come from (rings on links, files), which are wanted (filters in tcpdump's language), where they
//! go (pcapng, lines of text), and an account of those that were lost on the way.

pub mod confine;
pub mod dissect;
pub mod file;
pub mod filter;
pub mod flows;
pub mod names;
pub mod packet;
pub mod pair;
pub mod recorder;
pub mod ring;

pub use packet::{Direction, Interface, LinkType, Packet, Timestamp};
