//! The leases of the servers that use a SQLite file.
//!
//! One process has the file, so they are in its memory, and a heartbeat writes nothing. What an earlier
//! process held was taken back when the file was opened.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use duologue_engine::store::ServerId;

/// Until when each server's lease lasts.
#[derive(Default)]
pub(super) struct ServerLeases(Mutex<HashMap<ServerId, Instant>>);

impl ServerLeases {
    /// Starts a server's first lease; a later one is renewed by heartbeats only.
    pub(super) fn start(&self, server: &ServerId, duration: Duration) {
        let mut leases = self.lock();
        if !leases.contains_key(server) {
            leases.insert(server.clone(), Instant::now() + duration);
        }
    }

    pub(super) fn renew(&self, server: &ServerId, duration: Duration) {
        self.lock()
            .insert(server.clone(), Instant::now() + duration);
    }

    /// The servers whose leases have lapsed longer ago than `grace`.
    pub(super) fn lapsed(&self, grace: Duration) -> Vec<ServerId> {
        let now = Instant::now();
        let leases = self.lock();
        let lapsed = leases.iter().filter(|(_, until)| **until + grace < now);
        lapsed.map(|(server, _)| server.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
