//! Containers, as the engines know them: docker, podman, containerd, CRI, LXC, systemd-nspawn, named network
//! namespaces, plain processes and labs.
//!
//! Every engine is asked through its own socket or its own files, never through its command line tool. What comes back
//! is a plain [`Container`] record that says which process or which path has the container's network; links and
//! namespaces themselves are the business of the floor above. Nothing here trusts an answer: every conversation has a
//! time-out and a size limit, and one engine that hangs, dies or talks nonsense becomes a [`Warning`] beside the
//! answers of the others.

mod answers;
mod asking;
mod containerd;
mod cri;
mod docker;
mod endpoints;
mod engine;
mod fault;
mod grpc;
mod http;
mod lab;
mod lxc;
mod merge;
mod mounts;
mod naming;
mod nspawn;
mod oci;
mod owner;
mod podman;
mod process;
mod select;
mod spec;
mod timestamp;
mod unixsockets;
mod users;
mod watch;

#[doc(hidden)]
pub mod fuzz;

pub use answers::{Answer, LabelFilter, Query, list, lookup, lookup_meanwhile, recheck};
pub use endpoints::{Endpoint, Endpoints, LxcPlaces, NspawnPlaces};
pub use engine::{Container, Engine, Pod, Protocol, PublishedPort, State, UnknownEngine};
pub use fault::{Fault, Result, Warning, lines};
pub use naming::{Called, called};
pub use select::{SelectError, select};
pub use spec::{Kind, SpecError, TargetSpec};
pub use watch::{Watch, watch};

use merge::merge;
