//! The engine: sessions, turns, tools and jobs, and the seams that everything else plugs into.
//!
//! A session is one task that owns one numbered log of events; everything else reads that log or
//! produces its next event. Five traits connect the engine to its surroundings: [`Store`](store::Store),
//! [`Provider`](provider::Provider), [`Agent`](agent::Agent), [`Tool`](tool::Tool), and the
//! [`Clock`](clock::Clock).
//!
//! Invariant: nothing in this crate opens a file or a socket, or reads the environment.

pub mod agent;
mod broadcast;
mod budgets;
pub mod clock;
mod context;
mod drafts;
mod drain_schedule;
mod engine;
mod error_frames;
pub mod evicting_map;
mod free_workers;
mod heartbeat;
mod in_flight;
mod jobs;
mod leases;
pub mod limits;
pub mod lock;
mod log;
pub mod provider;
pub mod rate;
mod reader;
pub mod rearmed_timer;
mod session;
mod session_id_hash;
mod sessions;
pub mod store;
mod store_health;
mod supervision;
mod sweeper;
pub mod tool;
mod transcript;
mod turn;
pub mod verify;

#[cfg(feature = "testing")]
pub use crate::session::replay;
pub use crate::{
    context::{Limits, Parts},
    engine::Engine,
    reader::{Delivery, Reader, SharedFrame, SharedTokens},
    session::{AttachError, Position},
    session_id_hash::SessionIdHash,
};

/// The cause of an error, for the server's log and never for a client.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;
