//! Fuzzes the target `tool_arguments` of testing/fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duologue_fuzz::run("tool_arguments", bytes));
