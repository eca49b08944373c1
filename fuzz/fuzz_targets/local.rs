//! What is read of LXC, systemd-nspawn, networks by path, and /proc.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snorkel_engines::fuzz::fuzz_local(bytes));
