//! The program `duologue`: configuration, command line, HTTP, WebSocket, terminal client.
//!
//! [`app::Application`] is the server; `main.rs` only wires it to a terminal.

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
mod listener;
pub mod memory;
mod model;
pub mod operate;
pub mod panics;
pub mod probe;
pub mod shutdown;
mod socket;
pub mod telemetry;
pub mod verify;

pub use crate::auth::NewAdminToken;
