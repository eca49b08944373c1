//! `snorkel tap` as a user runs it, in labs, with real clients and servers. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

#[path = "tap/clients.rs"]
mod clients;
mod common;
#[path = "tap/crowd.rs"]
mod crowd;
#[path = "tap/datagrams.rs"]
mod datagrams;
#[path = "tap/datagrams_kept.rs"]
mod datagrams_kept;
#[path = "tap/docker.rs"]
mod docker;
#[path = "tap/ends.rs"]
mod ends;
#[path = "tap/kit.rs"]
mod kit;
#[path = "tap/outbound.rs"]
mod outbound;
#[path = "tap/record.rs"]
mod record;
#[path = "tap/spoil.rs"]
mod spoil;
