//! Podman's answers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snorkel_engines::fuzz::fuzz_podman(bytes));
