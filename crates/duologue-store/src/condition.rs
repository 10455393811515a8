//! What a look at a store finds.

/// How a store was found that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It answers, and its tables are what this build needs.
    Ready {
        /// The version of its tables.
        schema: i64,
    },
    /// A SQLite file whose tables [`open`](crate::open) will make, or bring up to date.
    MigratedAtStart {
        /// The version of its tables; 0 if there are none yet.
        schema: i64,
    },
    /// A SQLite file that a running server has open. It was left alone.
    InUse,
}
