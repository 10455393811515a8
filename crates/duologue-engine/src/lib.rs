//! The engine: sessions, turns, tools and jobs, and the seams that everything else plugs into.
//!
//! A session is one task that owns one numbered log of events; everything else reads that log or
//! makes its next entry. Four traits lead outside: [`Store`](store::Store),
//! [`Provider`](provider::Provider), [`Tool`](tool::Tool), and the [`Clock`](clock::Clock).
//!
//! Invariant: nothing in this crate opens a file or a socket, or reads the environment.

mod accounts;
pub mod agent;
pub mod clock;
mod engine;
mod flight;
mod jobs;
mod keeper;
pub mod limits;
mod log;
mod log_name;
pub mod provider;
pub mod rate;
mod reader;
pub mod register;
mod session;
mod sessions;
pub mod store;
mod supervision;
pub mod tool;
mod transcript;
mod turn;
pub mod verify;

pub use crate::{
    engine::{Engine, Limits, Parts},
    log_name::LogName,
    reader::{Delivery, Reader, SharedFrame},
    session::AttachError,
};

/// A cause from outside, kept for the log and never shown to a client.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
