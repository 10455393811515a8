//! Fuzzes the target `client_frame` of testing/fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duologue_fuzz::run("client_frame", bytes));
