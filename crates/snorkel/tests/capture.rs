//! `snorkel capture` and `snorkel read` as a user runs them: in labs, and with Docker's containers. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

#[path = "capture/beginning.rs"]
mod beginning;
mod common;
#[path = "capture/docker.rs"]
mod docker;
#[path = "capture/ends.rs"]
mod ends;
#[path = "capture/files.rs"]
mod files;
#[path = "capture/following.rs"]
mod following;
#[path = "capture/kit.rs"]
mod kit;
#[path = "capture/ledger.rs"]
mod ledger;
#[path = "capture/lines.rs"]
mod lines;
#[path = "capture/pipes.rs"]
mod pipes;
#[path = "capture/reading.rs"]
mod reading;
#[path = "capture/xdp.rs"]
mod xdp;
