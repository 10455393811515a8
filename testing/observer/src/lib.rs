//! The check of what a client delivers, independent of the client's own checks.
//!
//! The simulation and the torture use `duologue-client`, whose rules could be wrong. So a [`View`]
//! checks each frame that it delivers once more, and an [`ObservedClient`] is a client with its view.
//! A [`ClientFault`] is planted into it to see that the view finds what the client does not.
//!
//! ```text
//! server ──▶ Client (its own checks) ──▶ ClientFault ──▶ View ──▶ breaches ──▶ torture, simulation
//! ```

pub mod canary;
mod client;
mod view;

pub use crate::{
    client::{ClientFault, Observation, ObservedClient},
    view::{Breach, BreachKind, Identity, View},
};
