//! The test harness: real databases on free ports, started once per run, and whatever else tests of
//! running servers need.
//!
//! Everything listens on loopback only, waits for conditions and never for time to pass, and ends
//! with the process that started it. What a machine lacks is an error that says how to install it;
//! nothing is skipped.

pub mod child;
pub mod pgbouncer;
pub mod postgres;
pub mod store;
