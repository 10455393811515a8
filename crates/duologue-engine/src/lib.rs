//! The engine: sessions, turns, tools and jobs, and the seams that everything else plugs into.
//!
//! A session is one task that owns one numbered log of events; everything else reads that log or
//! makes its next entry. Four traits lead outside: [`Store`](store::Store),
//! [`Provider`](provider::Provider), [`Tool`](tool::Tool), and the [`Clock`](clock::Clock).
//!
//! Invariant: nothing in this crate opens a file or a socket, or reads the environment.

pub mod agent;
mod budgets;
pub mod clock;
mod engine;
pub mod evicting_map;
mod in_flight;
mod jobs;
mod keeper;
pub mod limits;
mod log;
pub mod provider;
pub mod rate;
mod reader;
mod session;
mod session_id_hash;
mod sessions;
pub mod store;
mod supervision;
pub mod tool;
mod transcript;
mod turn;
pub mod verify;

#[cfg(feature = "testing")]
pub use crate::session::replay;
pub use crate::{
    engine::{Engine, Limits, Parts},
    reader::{Delivery, Reader, SharedFrame},
    session::AttachError,
    session_id_hash::SessionIdHash,
};

/// A cause from outside, kept for the log and never shown to a client.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
