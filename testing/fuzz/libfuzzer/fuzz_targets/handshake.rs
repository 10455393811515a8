//! Fuzzes the target `handshake` of testing/fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duologue_fuzz::run("handshake", bytes));
