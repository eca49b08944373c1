//! Links, addresses, routes and neighbours of any network namespace, over a small synchronous rtnetlink socket; and as
//! much of queueing disciplines, filters, nftables and sock_diag as snorkel needs, over the same codec.
//!
//! ```no_run
//! use snorkel_rtnl::Socket;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let container = snorkel_netns::Netns::current()?;
//! let mut socket = Socket::open()?;
//! let id = socket.nsid(&container)?;
//! for link in socket.links(Some(id))? {
//!     println!("{} {}", link.index, link.name);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! One socket in the host's namespace is enough to see the links and addresses of every namespace, by its id
//! (rtnetlink(7), ip-netns(8)). For routes and neighbours, and on kernels before 4.20, a socket is made inside. All
//! links that are seen through one socket can be joined by (namespace id, index): [`Link::link_nsid`] speaks of ids
//! in the socket's namespace, whichever namespace was asked about.
//!
//! The codec is pure functions over bytes (`wire`, `parse`, `exchange`); only `netlink` and `subscription` touch the
//! kernel. An answer that cannot be trusted whole is an error, never a shorter list.

mod address;
mod change;
mod counters;
mod detour;
mod error;
mod event;
mod exchange;
mod filter;
mod fuzz;
mod kept;
mod link;
mod name;
mod neighbour;
mod netem;
mod netlink;
mod nftables;
mod offload;
mod parse;
mod qdisc;
mod query;
mod queue;
#[cfg(test)]
mod real;
mod route;
mod sockdiag;
mod socket;
mod subscription;
mod types;
mod wire;

pub use address::Address;
pub use counters::{LinkCounters, WayCounters};
pub use detour::{Detour, Hold};
pub use error::{Error, Result};
pub use event::{Event, EventKind};
pub use filter::{Filter, FilterId, FilterSide};
#[doc(hidden)]
pub use fuzz::fuzz_decode;
pub use kept::Kept;
pub use link::{Link, LinkFlags, MacvlanMode, OperState};
pub use neighbour::{Neighbour, NeighbourState};
pub use netem::{Netem, NetemLoss};
pub use nftables::{Chain, Nftables};
pub use qdisc::{AttachedQdisc, Qdisc, QdiscStatistics};
pub use queue::{Held, Queue, Ruling};
pub use route::{NextHop, Route, RouteKind, RouteProtocol};
pub use sockdiag::{WaitingSocket, v6_only_sockets, waiting_sockets};
pub use socket::Socket;
pub use subscription::{Groups, Subscription};
pub use types::{Family, IfIndex, Mac, NsId, Prefix, Scope};
