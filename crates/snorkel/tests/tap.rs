//! `snorkel tap` as a user runs it, in labs, with real clients and servers. Needs root.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "the helpers of a test fail as the test does")]

#[path = "tap/clients.rs"]
mod clients;
mod common;
#[path = "tap/datagrams.rs"]
mod datagrams;
#[path = "tap/ends.rs"]
mod ends;
#[path = "tap/kit.rs"]
mod kit;
#[path = "tap/outbound.rs"]
mod outbound;
