//! How a run shall go.

use std::ops::Range;

use crate::ground::StoreKind;

/// How a run shall go.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is under the server.
    pub store: StoreKind,
    /// How often the server is killed.
    pub kills: u32,
    /// Draws the plan.
    pub seed: u64,
    /// How long after the last fault the server is killed, in milliseconds.
    pub pauses_milliseconds: Range<u64>,
    /// Whether nothing else goes wrong.
    pub only_kills: bool,
    /// A planted fault, which the run must find.
    pub planted: Option<Planted>,
    /// Receives the progress of the run.
    pub progress: fn(&str),
}

/// A fault that is planted to see whether it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// At the last kill, the database is replaced by a copy that was made at the first.
    RestoredBackup,
    /// After the first kill, some frames of clients come twice.
    DoubledFrames,
    /// Clients do not resume, and so leave out what they missed.
    SkippedGaps,
}

impl Options {
    /// A run with all that can go wrong.
    pub fn new(store: StoreKind, kills: u32, seed: u64) -> Self {
        Self {
            store,
            kills,
            seed,
            pauses_milliseconds: 200..4000,
            only_kills: false,
            planted: None,
            progress: |_| {},
        }
    }
}
