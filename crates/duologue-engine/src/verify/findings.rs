//! What the checker found.

use std::fmt;

use duologue_protocol::SessionId;

use super::invariant::Invariant;

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

/// What was found so far.
pub(super) struct Findings<'a> {
    pub(super) session_id: &'a SessionId,
    pub(super) found: Vec<Violation>,
}

impl Findings<'_> {
    pub(super) fn add(&mut self, invariant: Invariant, what: impl Into<String>) {
        self.found.push(Violation {
            session_id: self.session_id.clone(),
            invariant,
            what: what.into(),
        });
    }
}
