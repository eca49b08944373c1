//! Real container engines for the tests and the bench, on a private machine inside the machine.
//!
//! A [`Machine`] is a set of namespaces (network, mount, UTS, cgroup) that plays the host: engines started in it make
//! their bridges, firewall rules, veths, mounts and cgroups there, at their usual places (`/run/docker.sock`,
//! `/var/lib/containers`, …), and the real machine's own are out of their reach. The pid namespace is the real one, so
//! that the PIDs that the engines tell are those of /proc. `snorkel` is run in it by [`Machine::command`].
//!
//! # What stays behind: nothing
//! A supervisor process waits for the end of the test process, however it ends (also by SIGKILL), then kills whatever
//! runs in the machine's cgroups and removes its files. Dropping a [`Machine`] waits for that;
//! [`Machine::shared`]'s is taken away when the process exits.
//!
//! # How to write tests with it
//! Engines take a second or two to start, and a process has one shared machine. So: few test binaries, one for each
//! subject, with few and long tests; each uses names of its own, as `cargo test` runs them side by side in one
//! process. `cargo nextest` runs each in a process of its own, which then has its own machine: slower, never wrong.
//!
//! # Failures
//! This is for tests: every function panics when it cannot do its work, and the message says what failed, with the
//! engine's own words. In particular there is no test without root: [`Machine::new`] panics and says so.

mod cgroup;
mod command;
mod containerd;
mod cri;
mod daemon;
mod docker;
mod image;
mod lxc;
mod lxd;
mod machine;
mod nspawn;
mod podman;
mod resolver;
mod user;

pub use command::{Finished, finish, succeed};
pub use containerd::Containerd;
pub use cri::{Cri, Sandbox};
pub use docker::Docker;
pub use image::Image;
pub use lxc::Lxc;
pub use lxd::Lxd;
pub use machine::Machine;
pub use nspawn::Nspawn;
pub use podman::Podman;
pub use user::User;
