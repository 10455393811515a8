//! A deterministic simulation of the real server: a simulated network, clock and model, a faulty
//! database, clients in character, and whatever can go wrong. The same seed has the same history.
//!
//! ```text
//! clients ──WebSocket──▶ servers (the real ones) ──▶ connections ──▶ database (in memory)
//!    ▲                      ▲        ▲                    ▲
//!    └─── partitions ───────┘     crashes      refused, lost, slow, away          ◀── nemesis
//! ```
//!
//! Clients check every frame that they receive; at the end, the oracle checks what is stored, and
//! compares. Both are tested by mutants, faults planted into the database on purpose.
//!
//! Nothing here may take time, randomness or ids from anywhere but the seed.

mod client;
mod database;
mod model;
mod mutant;
mod nemesis;
mod network;
mod oracle;
mod plan;
mod server;
mod simulation;
mod time;
mod tools;
mod trace;
mod world;

pub use crate::{
    mutant::Mutant,
    simulation::{Outcome, run},
    trace::Trace,
};
