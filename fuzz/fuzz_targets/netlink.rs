//! What the kernel sends over a netlink socket, through every parser.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snorkel_rtnl::fuzz_decode(bytes));
