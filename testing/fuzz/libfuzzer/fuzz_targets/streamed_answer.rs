//! Fuzzes the target `streamed_answer` of testing/fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duologue_fuzz::run("streamed_answer", bytes));
