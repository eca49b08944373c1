//! Docker's answer about one container.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| snorkel_engines::fuzz::fuzz_docker_inspect(bytes));
