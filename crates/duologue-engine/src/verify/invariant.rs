//! The invariants of stored sessions, and their names.

use std::fmt;

/// What a session is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// All that is kept can be read.
    Readable,
    /// Events are numbered 1, 2, 3, … without gaps.
    GapFree,
    /// A message with an id is stored once.
    MessageOnce,
    /// A message that had to wait is taken up once, before the session's end.
    QueueTakenUp,
    /// Each user's message has exactly one end, before the next one and before the session's end.
    TurnClosed,
    /// A tool call has exactly one result, and no result is without a call.
    CallAnswered,
    /// A session ends once, until it is reopened, and is summarised once per ending.
    EndedOnce,
    /// Only the latest claim writes.
    SingleWriter,
    /// Time never goes back.
    TimeForward,
    /// The session's row is what follows from its log.
    RowIsFold,
    /// Each ending has its job, and no job is without an ending.
    JobPerEnding,
}

impl Invariant {
    /// All of them, for callers that must handle each.
    pub const ALL: [Self; 11] = [
        Self::Readable,
        Self::GapFree,
        Self::MessageOnce,
        Self::QueueTakenUp,
        Self::TurnClosed,
        Self::CallAnswered,
        Self::EndedOnce,
        Self::SingleWriter,
        Self::TimeForward,
        Self::RowIsFold,
        Self::JobPerEnding,
    ];

    /// The stable name, as `duologue verify` prints it and `docs/operations.md` explains it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Readable => "readable",
            Self::GapFree => "gap-free",
            Self::MessageOnce => "message-once",
            Self::QueueTakenUp => "queue-taken-up",
            Self::TurnClosed => "turn-closed",
            Self::CallAnswered => "call-answered",
            Self::EndedOnce => "ended-once",
            Self::SingleWriter => "single-writer",
            Self::TimeForward => "time-forward",
            Self::RowIsFold => "row-is-fold",
            Self::JobPerEnding => "job-per-ending",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
