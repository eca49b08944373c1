//! Network namespaces and the processes that live in them: open, identify, run inside, enter and exec.
//!
//! This is the ground floor. Nothing here knows what a container or an engine is. A namespace is known by inode and
//! cookie, a process by its pidfd; a bare PID or a bare path is only ever the way to such a handle.

pub mod caps;
pub mod control;
pub mod enter;
mod error;
mod foreign;
mod handle;
pub mod mounts;
pub mod notify;
pub mod os;
mod peer;
mod points;
mod process;
pub mod unix;
pub mod user;

pub use error::{Error, Result, chain};
pub use foreign::routing_socket_beside;
pub use handle::{Netns, NetnsId, cookie_here};
pub use peer::Peer;
pub use process::{Pid, Process};
