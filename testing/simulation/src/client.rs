//! A client: speaks real WebSocket on the simulated network, in character, and checks every frame.

mod knowledge;
mod participant;
mod tab;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use duologue_observer::ClientFault;
use duologue_protocol::SessionId;
use futures_util::future::join_all;

use crate::{
    plan::{Character, Plan, Talk},
    time::Time,
    trace::Trace,
};

pub(crate) use self::knowledge::Knowledge;
use self::{knowledge::Shared, participant::Participant};

/// All clients of a run. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    shared: Shared,
}

impl Clients {
    /// Clients that have the given fault, or none.
    pub(crate) fn new(plan: &Plan, trace: Trace, time: Time, fault: Option<ClientFault>) -> Self {
        Self {
            shared: Shared::new(plan, trace, time, fault),
        }
    }

    /// What the clients of each session know.
    pub(crate) fn knowledge(&self) -> MutexGuard<'_, BTreeMap<SessionId, Knowledge>> {
        self.shared.knowledge()
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
            let (shared, talk) = (self.shared.clone(), talk.clone());
            Participant::new(shared, name, talk, number, Arc::clone(&home)).run()
        });
        join_all(tabs.collect::<Vec<_>>()).await;
    }
}
