//! Fuzzes the target `agent_file` of testing/fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| duologue_fuzz::run("agent_file", bytes));
