//! Fuzzes the target `request_head` of testing/fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duologue_fuzz::run("request_head", bytes));
