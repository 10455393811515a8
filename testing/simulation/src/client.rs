//! A client: speaks real WebSocket on the simulated network, in character, and checks every frame.

mod tab;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use duologue_protocol::SessionId;
use futures_util::future::join_all;

use crate::{
    history::History,
    plan::{Character, Plan, Talk},
    time::Time,
};

use self::tab::Tab;

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
    /// Messages that a client was told are on record.
    pub(crate) acknowledged: BTreeSet<Message>,
    /// When a client heard something of the server, so that it was attached just before.
    pub(crate) heard: BTreeSet<Duration>,
    /// The events that each tab was told.
    pub(crate) views: Vec<(String, BTreeMap<u64, String>)>,
}

/// What all clients share.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    pub(crate) history: History,
    pub(crate) time: Time,
    servers: usize,
    /// All conversations, for those who knock at doors that are not theirs.
    talks: Arc<Vec<Talk>>,
    knowledge: Arc<Mutex<BTreeMap<SessionId, Knowledge>>>,
}

impl Clients {
    pub(crate) fn new(plan: &Plan, history: History, time: Time) -> Self {
        Self {
            history,
            time,
            servers: plan.servers,
            talks: Arc::new(plan.clients.iter().flatten().cloned().collect()),
            knowledge: Arc::default(),
        }
    }

    /// What the clients of each session know.
    pub(crate) fn knowledge(&self) -> MutexGuard<'_, BTreeMap<SessionId, Knowledge>> {
        self.knowledge
            .lock()
            .expect("no holder of this lock panics")
    }

    fn learn(&self, session_id: &SessionId, learn: impl FnOnce(&mut Knowledge)) {
        learn(self.knowledge().entry(session_id.clone()).or_default());
    }

    /// Has all conversations of one client, at the same time.
    pub(crate) async fn run(self, name: String, talks: Vec<Talk>) {
        let talks = talks.into_iter().map(|talk| self.clone().talk(&name, talk));
        join_all(talks.collect::<Vec<_>>()).await;
    }

    async fn talk(self, client: &str, talk: Talk) {
        let tabs = match talk.character {
            Character::TwoTabs => 2,
            _ => 1,
        };
        // Where the session lives; one tab that finds its server gone takes the others along.
        let home = Arc::new(Mutex::new(talk.home));
        let tabs = (0..tabs).map(|number| {
            let name = format!("{client}/{}/{number}", talk.session_id);
            Tab::new(self.clone(), name, talk.clone(), number, Arc::clone(&home)).live()
        });
        join_all(tabs.collect::<Vec<_>>()).await;
    }
}
