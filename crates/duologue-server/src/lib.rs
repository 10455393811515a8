//! The program `duologue`: configuration, command line, HTTP, WebSocket, terminal client.
//!
//! [`server::Server`] is the server, [`application::Application`] the server that a configuration
//! describes; `main.rs` connects it to a terminal.

mod agent_file;
mod api_error;
mod app;
pub mod application;
mod auth;
pub mod banner;
pub mod bind_error;
pub mod bounded_write;
pub mod chat;
pub mod check;
pub mod cli;
mod client_address;
pub mod clock;
pub mod config;
mod connection_limits;
mod error_chain;
mod exposure;
#[cfg(feature = "testing")]
pub mod fuzz;
pub mod health_check;
mod hosts;
mod http;
pub mod jobs_command;
pub mod listener;
pub mod memory;
mod model;
mod origins;
pub mod panics;
mod query;
mod redacted_url;
pub mod restored_command;
pub mod server;
mod shared_stream;
pub mod shutdown;
mod socket;
pub mod start_error;
pub mod telemetry;
pub mod verify;

pub use crate::auth::NewAdminToken;
