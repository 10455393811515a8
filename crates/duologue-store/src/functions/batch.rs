//! Writes that are sent together, and their answers: what `duologue_write` takes and returns.

use std::collections::HashMap;

use duologue_engine::store::StoreError;
use duologue_protocol::SessionId;
use serde::Deserialize;
use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use super::call::{Call, Lane};

/// The kinds of writes, in the order in which a batch carries them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Drafts,
    Appends,
    Ends,
    Releases,
    Claims,
    Results,
    Jobs,
    JobClaims,
}

impl Kind {
    /// Whether a session or a client waits for the answer.
    pub(super) fn is_urgent(self) -> bool {
        !matches!(self, Self::Results | Self::JobClaims)
    }

    /// As `duologue_write` names it.
    fn name(self) -> &'static str {
        match self {
            Self::Drafts => "drafts",
            Self::Appends => "appends",
            Self::Ends => "ends",
            Self::Releases => "releases",
            Self::Claims => "claims",
            Self::Results => "results",
            Self::Jobs => "jobs",
            Self::JobClaims => "job_claims",
        }
    }
}

/// A write that waits for its answer.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) kind: Kind,
    /// What the function takes, as JSON; a set of drafts is several elements of an array, of which a batch has one.
    pub(super) item: String,
    /// The session that it changes. A batch has at most one write of a session, and the urgent writes of a session
    /// are sent in the order in which they came.
    pub(super) session: Option<SessionId>,
    /// Until when it may wait for its batch.
    pub(super) waits_until: Instant,
    /// Since when the row that it changes is locked.
    pub(super) lock: Option<Locked>,
    pub(super) reply: oneshot::Sender<Result<Answer, StoreError>>,
}

impl Write {
    /// When it is given up.
    pub(super) fn expires_at(&self) -> Instant {
        self.lock.map_or(self.waits_until, |lock| lock.deadline)
    }
}

/// A row that another transaction has locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Locked {
    /// When it is tried again.
    pub(super) retry_at: Instant,
    /// When it is given up.
    pub(super) deadline: Instant,
}

/// What became of a write, if it was not answered `locked`. A write without an answer of its own was carried
/// out: null. The answer to a set of drafts is an object: the answers of its drafts by their positions.
pub(super) type Answer = Value;

/// The answers to a batch: by kind, and by the position of the write among those of its kind.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Answers(HashMap<String, HashMap<String, Value>>);

impl Answers {
    fn take(&mut self, kind: Kind, position: usize) -> Answer {
        if kind == Kind::Drafts {
            let answers = self.0.remove(kind.name()).unwrap_or_default();
            return Value::Object(answers.into_iter().collect());
        }
        let answers = self.0.get_mut(kind.name());
        let answer = answers.and_then(|answers| answers.remove(&position.to_string()));
        answer.unwrap_or(Value::Null)
    }
}

/// Makes the call that carries out `writes`, which are sorted by kind.
pub(super) fn call(writes: &[Write]) -> Call {
    const NAMES_BYTES: usize = 256;
    let length: usize = writes.iter().map(|write| write.item.len() + 1).sum();
    let mut document = String::with_capacity(length + NAMES_BYTES);
    document.push('{');
    for of_kind in writes.chunk_by(|one, next| one.kind == next.kind) {
        if document.len() > 1 {
            document.push(',');
        }
        document.push('"');
        document.push_str(of_kind[0].kind.name());
        document.push_str("\":[");
        for (position, write) in of_kind.iter().enumerate() {
            if position > 0 {
                document.push(',');
            }
            document.push_str(&write.item);
        }
        document.push(']');
    }
    document.push('}');
    let call = Call::new("duologue_write")
        .on(Lane::Writer)
        .json("batch", document);
    if writes.iter().any(takes_more) {
        call.takes_more()
    } else {
        call
    }
}

/// Whether a repetition of this write takes more than was asked for. See `Repetition::TakesMore`.
pub(super) fn takes_more(write: &Write) -> bool {
    write.kind == Kind::JobClaims
}

/// Pairs writes, sorted by kind, with their answers.
pub(super) fn answered(
    writes: Vec<Write>,
    mut answers: Answers,
) -> impl Iterator<Item = (Write, Answer)> {
    let (mut kind, mut position) = (None, 0);
    writes.into_iter().map(move |write| {
        if kind != Some(write.kind) {
            (kind, position) = (Some(write.kind), 0);
        }
        let answer = answers.take(write.kind, position);
        position += 1;
        (write, answer)
    })
}

/// Whether the row was locked, and nothing happened.
pub(super) fn is_locked(answer: &Answer) -> bool {
    answer == "locked"
}
