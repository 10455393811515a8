//! The checker: what breaks the invariants in a session as it is kept.
//!
//! Pure: it is given what a store keeps, and says what is wrong with it. `duologue verify` runs it
//! on live databases, and the tests on what they leave behind. A sound session is never reported,
//! be it in the middle of a turn; [`read`] sees to it that what is checked is of one moment.

mod endings;
mod log;
mod queue;
mod reading;
#[cfg(test)]
mod tests;
mod turns;

use std::fmt;

use duologue_protocol::{Event, SessionId};

pub use self::reading::{check, read};
use crate::store::operators::{StoredEvent, StoredSession};

/// A session as it is kept, all of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// All but the log.
    pub head: StoredSession,
    /// The whole log, in the order of its numbers.
    pub log: Vec<StoredEvent>,
}

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

/// A breach. Its text has ids, numbers and times, and nothing that anybody said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub session_id: SessionId,
    /// What is broken.
    pub invariant: Invariant,
    /// How, for people.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            session_id,
            invariant,
            what,
        } = self;
        write!(f, "{session_id}: {invariant}: {what}")
    }
}

/// All that breaks an invariant in this session; empty if it is sound.
///
/// Where a row cannot be read, only that and gaps are reported: nobody knows what the rest of the
/// log says.
pub fn violations(kept: &Kept) -> Vec<Violation> {
    let mut findings = Findings {
        session_id: &kept.head.record.session_id,
        found: Vec::new(),
    };
    log::is_gap_free(kept, &mut findings);
    log::is_readable(kept, &mut findings);
    let log: Option<Vec<_>> = kept.log.iter().map(Entry::of).collect();
    if let Some(log) = log {
        log::has_messages_once(&log, &mut findings);
        log::has_a_single_writer(kept.head.epoch, &log, &mut findings);
        log::has_time_going_forward(&log, &mut findings);
        queue::is_taken_up(&kept.head.record, &log, &mut findings);
        turns::are_closed(&kept.head.record, &log, &mut findings);
        turns::have_their_calls_answered(&log, &mut findings);
        endings::are_single(&kept.head, &log, &mut findings);
        endings::have_their_jobs(&kept.head, &log, &mut findings);
        endings::make_the_row(&kept.head, &log, &mut findings);
    }
    findings.found
}

/// A row of the log that can be read.
#[derive(Clone, Copy)]
struct Entry<'a> {
    epoch: u64,
    event: &'a Event,
}

impl<'a> Entry<'a> {
    fn of(row: &'a StoredEvent) -> Option<Self> {
        let event = row.event.as_ref().ok()?;
        Some(Self {
            epoch: row.epoch,
            event,
        })
    }
}

/// What was found so far.
struct Findings<'a> {
    session_id: &'a SessionId,
    found: Vec<Violation>,
}

impl Findings<'_> {
    fn add(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.found.push(Violation {
            session_id: self.session_id.clone(),
            invariant,
            what: what.into(),
        });
    }
}
