//! Fuzzes the target `whole_answer` of testing/fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duologue_fuzz::run("whole_answer", bytes));
