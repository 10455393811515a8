//! Test doubles of the engine's seams: a store in memory, a scripted provider, and a clock.

pub mod clock;
pub mod memory;
pub mod scripted;
