//! Throw-away containers made of namespaces alone, for the newcomer's tour, for tests and for benchmarks.
//!
//! A lab is one *holder* process and its children. The holder lies in a network namespace of its own, the *switch*,
//! with a bridge and a name server; each child is a *node* with namespaces of its own (net, uts, ipc, pid, mnt), an
//! image with nothing in it but `/etc/{hosts,hostname,resolv.conf}` and `/proc`, and a veth pair to the bridge. All of
//! it is held by these processes and nothing else, so it vanishes with the holder, also by SIGKILL: no file is
//! written, nothing is mounted and no link is made where the host would see it.
//!
//! Labs are found again over an abstract unix socket in the network namespace where they were called up,
//! `@snorkel-lab/NAME`. Whoever binds a datagram socket `@snorkel-lab-watch/ANYTHING` there is told when one is up and when
//! one was taken down ([`snorkel_netns::notify`]).

mod client;
mod control;
mod error;
mod holder;
mod image;
mod links;
mod members;
mod node;
mod plan;
mod scoped;
mod server;
mod spec;
mod wire;

pub use client::{HOLDER_ARGUMENT, down, find, list, list_with_faults, up};
pub use error::{Error, Result};
pub use holder::holder_main;
pub use scoped::Scoped;
pub use spec::{Kind, LabSpec, NodeSpec, ResolvConf};
pub use wire::{Down, Lab, Node, Port, State};
