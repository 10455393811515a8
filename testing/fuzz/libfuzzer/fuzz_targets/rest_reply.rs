//! Fuzzes the target `rest_reply` of testing/fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duologue_fuzz::run("rest_reply", bytes));
