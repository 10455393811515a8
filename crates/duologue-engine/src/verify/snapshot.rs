//! What the checker is given: a session as it is stored.

use duologue_protocol::Event;

use crate::store::operators::{StoredEvent, StoredSession};

/// A session as it is kept, all of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionSnapshot {
    /// All but the log.
    pub head: StoredSession,
    /// The whole log, in the order of its numbers.
    pub log: Vec<StoredEvent>,
}

/// A row of the log that can be read.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) epoch: u64,
    pub(super) event: &'a Event,
}

impl<'a> Entry<'a> {
    pub(super) fn of(row: &'a StoredEvent) -> Option<Self> {
        let event = row.event.as_ref().ok()?;
        Some(Self {
            epoch: row.epoch,
            event,
        })
    }
}
