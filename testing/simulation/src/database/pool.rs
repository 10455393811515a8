//! A server's connections to the database: fewer than it has sessions.
//!
//! An operation has a connection from its start to its end, as in a real store. So one that is started
//! and then not polled keeps its connection from all others, which a planted fault shows.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use duologue_engine::store::StoreError;
use duologue_protocol::SessionId;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};

/// How long an operation waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the database keeps an operation that is not polled.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(6);

/// How often an operation that is not polled looks whether it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    free: Semaphore,
    /// Sessions that wait for an append, with its repetitions.
    appending: Mutex<BTreeSet<SessionId>>,
}

impl Pool {
    pub(super) fn new(connections: usize) -> Self {
        Self {
            free: Semaphore::new(connections),
            appending: Mutex::default(),
        }
    }

    /// Waits for a connection, which is free again when the result is dropped.
    pub(super) async fn connection(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        let connection = timeout(ACQUIRE_TIMEOUT, self.free.acquire()).await;
        match connection {
            Ok(connection) => Ok(connection.expect("the semaphore is never closed")),
            Err(_elapsed) => Err(StoreError::Unavailable("no connection is free".into())),
        }
    }

    /// The session waits for an append from now on.
    pub(super) fn append_started(&self, session_id: &SessionId) {
        self.appending().insert(session_id.clone());
    }

    /// The session has the result of its append. One that is to be repeated goes on.
    pub(super) fn append_returned<T>(
        &self,
        session_id: &SessionId,
        result: &Result<T, StoreError>,
    ) {
        if !matches!(result, Err(StoreError::Unavailable(_))) {
            self.appending().remove(session_id);
        }
    }

    /// Has a connection for as long as the session waits for an append, and does not use it.
    /// It is sent first, which takes a round trip; until then the session may go on.
    pub(super) async fn hold_unpolled(&self, session_id: &SessionId, round_trip: Duration) {
        let Ok(_connection) = self.connection().await else {
            return;
        };
        sleep(round_trip.max(LOOK_INTERVAL)).await;
        let unpolled = async {
            while self.appending().contains(session_id) {
                sleep(LOOK_INTERVAL).await;
            }
        };
        // Then the database rolls it back, and the connection is free.
        drop(timeout(STATEMENT_TIMEOUT, unpolled).await);
    }

    fn appending(&self) -> MutexGuard<'_, BTreeSet<SessionId>> {
        self.appending
            .lock()
            .expect("no holder of this lock panics")
    }
}
