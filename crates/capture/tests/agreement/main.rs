//! What is said of packets agrees with what tcpdump and tshark say of the same packets: of real traffic between two
//! namespaces, and of packets built by code where no real ones are to be had.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod built;
mod crafted;
mod fields;
mod flows;
mod pcap;
mod tcpdump;
mod tools;
