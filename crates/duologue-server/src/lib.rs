//! The program `duologue`: configuration, command line, terminal client and telemetry.

pub mod banner;
pub mod chat;
pub mod cli;
pub mod config;
pub mod telemetry;
