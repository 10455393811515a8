//! The program `duologue`: configuration, command line, HTTP, WebSocket, terminal client.
//!
//! [`server::Server`] is the server, [`app::Application`] the one that a configuration describes;
//! `main.rs` only wires that to a terminal.

pub mod app;
mod auth;
pub mod banner;
pub mod chat;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
#[cfg(feature = "testing")]
pub mod fuzz;
mod gates;
mod http;
pub mod listener;
pub mod memory;
mod model;
pub mod operate;
pub mod panics;
pub mod probe;
pub mod server;
pub mod shutdown;
mod socket;
pub mod telemetry;
pub mod verify;

pub use crate::auth::NewAdminToken;
