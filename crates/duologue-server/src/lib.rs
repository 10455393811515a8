//! The program `duologue`: configuration, command line, HTTP, WebSocket, terminal client.
//!
//! [`server::Server`] is the server, [`app::Application`] the one that a configuration describes;
//! `main.rs` only wires that to a terminal.

pub mod app;
pub mod banner;
pub mod chat;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
mod http;
pub mod listener;
mod model;
pub mod probe;
pub mod server;
pub mod shutdown;
mod socket;
pub mod telemetry;
