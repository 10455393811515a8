//! What Postgres's own error codes mean for the caller, on every way to the database.

/// Whether Postgres gave up this transaction in favour of another: it may be repeated at once.
pub(crate) fn is_broken_off(code: &str) -> bool {
    // Serialization failure, deadlock.
    matches!(code, "40001" | "40P01")
}

/// Whether the same call may succeed later.
pub(crate) fn may_pass(code: &str) -> bool {
    matches!(
        code.get(..2),
        Some(
            "08" // connection
            | "25" // read-only: a standby; or a transaction that was idle for too long
            | "28" // a login that is being changed
            | "40" // broken off
            | "53" // disk full, out of memory, too many connections
            | "55" // lock not available
            | "57" // cancelled, or shutting down
            | "58" // input or output
        )
    )
}
