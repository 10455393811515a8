//! What the clients of a run share: what they need to know of it, and what they found out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use duologue_observer::ClientFault;
use duologue_protocol::SessionId;

use crate::{
    plan::{Plan, Talk},
    time::Time,
    trace::Trace,
};

/// A message that a client has sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Message {
    /// No two messages have the same.
    pub(crate) text: String,
    pub(crate) id: Option<String>,
}

/// What the clients of one session know together.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    /// How often each message was sent.
    pub(crate) sent: BTreeMap<Message, u32>,
    /// Messages whose receipt a client received.
    pub(crate) acknowledged: BTreeSet<Message>,
    /// When a client received something from the server, so that it was attached just before.
    pub(crate) attached: BTreeSet<Duration>,
    /// When a tab received the last piece of an answer that was complete, and when its `done`.
    pub(crate) ends: Vec<(Duration, Duration)>,
    /// The events that each tab received.
    pub(crate) views: Vec<(String, BTreeMap<u64, String>)>,
}

/// What all clients share. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) trace: Trace,
    pub(crate) time: Time,
    pub(super) servers: usize,
    /// A planted fault, which the run must find.
    pub(super) fault: Option<ClientFault>,
    /// All conversations, for clients that try to get into those of others.
    pub(super) talks: Arc<Vec<Talk>>,
    knowledge: Arc<Mutex<BTreeMap<SessionId, Knowledge>>>,
}

impl Shared {
    pub(super) fn new(plan: &Plan, trace: Trace, time: Time, fault: Option<ClientFault>) -> Self {
        Self {
            trace,
            time,
            servers: plan.servers,
            fault,
            talks: Arc::new(plan.clients.iter().flatten().cloned().collect()),
            knowledge: Arc::default(),
        }
    }

    /// What the clients of each session know.
    pub(super) fn knowledge(&self) -> MutexGuard<'_, BTreeMap<SessionId, Knowledge>> {
        self.knowledge
            .lock()
            .expect("no holder of this lock panics")
    }

    pub(super) fn learn(&self, session_id: &SessionId, learn: impl FnOnce(&mut Knowledge)) {
        learn(self.knowledge().entry(session_id.clone()).or_default());
    }
}
