//! What a client did and saw, written down while it happens, for the comparison with the log.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde_json::Value;

/// Everything that one client (one tab) did and saw in one session.
#[derive(Clone, Debug)]
pub struct History {
    /// Names the client in findings.
    pub client: String,
    /// The session, and whose it is.
    pub session: String,
    /// The user who speaks.
    pub user: String,
    /// A word in everything said in this session, and nowhere else.
    pub canary: String,
    /// What it asked for, in order.
    pub operations: Vec<Operation>,
    /// Its view of the log: the frames of events by their number, as first seen.
    pub events: BTreeMap<u64, Value>,
    /// When it was attached.
    pub attachments: Vec<Attachment>,
    /// What was wrong already when it was received.
    pub breaches: Vec<Finding>,
    /// Frames of any kind.
    pub frames_seen: u64,
}

/// Something that a client asked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it asked for.
    pub request: Request,
    /// What came of it, as far as the client can know.
    pub outcome: Outcome,
}

/// What a client can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// To be let in.
    Connect,
    /// To have this stored and answered. The text is said only once in the session, but for
    /// repetitions under the same id.
    Message {
        /// What it says.
        text: String,
        /// Its id, if it has one.
        id: Option<String>,
    },
    /// To end the session: by the frame `end`, or by close code 1000.
    End,
    /// Something that must be refused.
    Nonsense,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It was done, and the client received the confirmation. For nonsense: it was refused, as it must be.
    Ok,
    /// The client received a refusal.
    Failed,
    /// The client was not told: it may have been done.
    Unknown,
}

/// A time in which a client was attached to its session, from the first frame until the client
/// noticed the end.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    /// When its first frame came.
    pub from: Timestamp,
    /// When the connection was over; `None` while it is not.
    pub until: Option<Timestamp>,
    /// Whether the client read what came as soon as it came. Otherwise the server may have given the
    /// connection up long before the client noticed.
    pub reads_at_once: bool,
}

/// Something that breaks a promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which promise.
    pub kind: FindingKind,
    /// Where: a session, a client, or the server.
    pub place: String,
    /// What exactly.
    pub what: String,
}

/// Which promise is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// A message was acknowledged, and is not in the log.
    LostReceipt,
    /// A message is in the log more than once.
    DoubledMessage,
    /// A message was refused, and is in the log nevertheless.
    RefusedButStored,
    /// The log has a message that nobody sent.
    NeverSent,
    /// A session ended twice without being reopened in between, or more often than was asked for.
    DoubledEnding,
    /// A session ended although a client was attached, or before its grace was over.
    EarlyEnding,
    /// A session has not ended and been summarised in the end.
    NotCompleted,
    /// A message has no answer, or more than one.
    OpenTurn,
    /// Events or pieces of text came with a gap, twice, or out of order.
    Gap,
    /// The log that a client had seen is gone.
    LogWentBack,
    /// What a client received differs from the log.
    DiffersFromLog,
    /// A word of one session was seen in another, or in the server's own log.
    ForeignCanary,
    /// A client was answered against the protocol, or not at all.
    Protocol,
    /// The server ended by itself, did not start, or did not stop as told.
    Server,
    /// `duologue verify` is not content with what is kept.
    Verify,
}

impl Finding {
    /// Names what is broken, where and how.
    pub fn new(kind: FindingKind, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            kind,
            place: place.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}: {}", self.kind, self.place, self.what)
    }
}

impl History {
    /// Of a client that has not done anything yet.
    pub fn new(client: &str, session: &str, user: &str, canary: &str) -> Self {
        Self {
            client: client.to_owned(),
            session: session.to_owned(),
            user: user.to_owned(),
            canary: canary.to_owned(),
            operations: Vec::new(),
            events: BTreeMap::new(),
            attachments: Vec::new(),
            breaches: Vec::new(),
            frames_seen: 0,
        }
    }

    /// The number of the last event seen, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.events.last_key_value().map_or(0, |(seq, _)| *seq)
    }

    /// Writes down what came of a request.
    pub fn record(&mut self, request: Request, outcome: Outcome) {
        self.operations.push(Operation { request, outcome });
    }

    /// Writes down that a promise was broken before the client's eyes.
    pub fn breach(&mut self, kind: FindingKind, what: impl Into<String>) {
        let place = format!("{} in {}", self.client, self.session);
        self.breaches.push(Finding::new(kind, place, what));
    }
}

/// What the server did that it must not.
pub(crate) fn of_server(error: &anyhow::Error) -> Finding {
    Finding::new(FindingKind::Server, "the server", format!("{error:#}"))
}
