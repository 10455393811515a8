//! Whether the database is where it was last seen.

use serde::Deserialize;

/// What `duologue_check_origin` found. A database that is not where it was last seen was restored from a
/// backup or has failed over: its logs may lack what clients have seen, so each got a new id, and nobody
/// holds a lease any more.
#[derive(Debug, Deserialize)]
pub(crate) struct OriginCheck {
    /// The number of sessions, if that is so.
    restored: Option<u64>,
    /// What of the origin this role may not read: `system`, `timeline`.
    unreadable: Vec<String>,
}

impl OriginCheck {
    /// Logs what an operator should know.
    pub(crate) fn log(&self) {
        if let Some(sessions) = self.restored {
            tracing::warn!(
                sessions,
                "store.restored: the database was restored or has failed over; clients replay their logs"
            );
        }
        if !self.unreadable.is_empty() {
            tracing::warn!(
                unreadable = self.unreadable.join(", "),
                "store.origin_unreadable: a restore may not be recognised; run `duologue restored` after one"
            );
        }
    }
}
