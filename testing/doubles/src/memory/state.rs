//! The tables of the store in memory.

use std::{collections::BTreeMap, time::Duration};

use duologue_engine::store::{Lease, ServerId, StoreError};
use duologue_protocol::{Event, LogId, Seq, SessionId, Timestamp, UserId};
use tokio::time::Instant;

use super::{
    job_row::JobRow,
    session::{EventRow, Session},
};

/// How a write fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written.
    BeforeEffect,
    /// All is written, but the answer is lost.
    AfterEffect,
}

/// Every table, and the writes that will fail.
#[derive(Default)]
pub(super) struct State {
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Until when the lease of each server lasts.
    pub(super) servers: BTreeMap<ServerId, Instant>,
    pub(super) jobs: Vec<JobRow>,
    pub(super) fault: Option<Fault>,
    pub(super) faults_left: u32,
    /// The log ids that were given. They are counted, not random, so that a simulation can be repeated.
    pub(super) logs: u64,
}

impl State {
    /// The session, if `lease` is still the right to write to it.
    pub(super) fn held(&mut self, lease: &Lease) -> Result<&mut Session, StoreError> {
        self.sessions
            .get_mut(&lease.session_id)
            .filter(|session| session.record.user_id == lease.user_id)
            .filter(|session| session.epoch == lease.epoch && session.is_active())
            .filter(|session| session.owner.as_ref() == Some(&lease.server))
            .ok_or(StoreError::Conflict)
    }

    /// Starts a server's first lease.
    pub(super) fn start_lease(&mut self, server: &ServerId, duration: Duration) {
        let until = Instant::now() + duration;
        self.servers.entry(server.clone()).or_insert(until);
    }

    /// Until when the session is held, or was.
    pub(super) fn lapsed_at(&self, session: &Session) -> Instant {
        let owner = session.owner.as_ref();
        let lease = owner.and_then(|owner| self.servers.get(owner));
        lease.copied().unwrap_or(session.lease_until)
    }

    /// Whether the session was claimed again since, or is not there.
    pub(super) fn is_lost(&self, lease: &Lease) -> bool {
        self.sessions.get(&lease.session_id).is_none_or(|session| {
            let owner = session.owner.as_ref();
            session.epoch != lease.epoch || owner.is_some_and(|owner| *owner != lease.server)
        })
    }

    pub(super) fn tokens_spent(&self, user: &UserId, since: Timestamp) -> Result<u64, StoreError> {
        let sessions = self.sessions.values();
        let of_user = sessions.filter(|session| session.record.user_id == *user);
        let mut spent: u64 = 0;
        for session in of_user {
            spent = spent.saturating_add(session.tokens_spent(since)?);
        }
        Ok(spent)
    }

    pub(super) fn of_user(&self, user: &UserId, session: &SessionId) -> Option<&Session> {
        let session = self.sessions.get(session);
        session.filter(|session| session.record.user_id == *user)
    }

    /// Whether `lease` has stored just these events: then the call is a repetition.
    pub(super) fn has_events(&self, lease: &Lease, after: Seq, events: &[Event]) -> bool {
        let Some(session) = self.of_user(&lease.user_id, &lease.session_id) else {
            return false;
        };
        let stored = session.events.iter().skip(index(after));
        let rows = events.iter().map(|event| EventRow::new(lease.epoch, event));
        !events.is_empty()
            && stored
                .take(events.len())
                .eq(rows.collect::<Vec<_>>().iter())
    }
}

pub(super) fn log_id(number: u64) -> LogId {
    LogId::new(&format!("log-{number}")).expect("it has only letters, digits and a hyphen")
}

pub(super) fn index(seq: Seq) -> usize {
    usize::try_from(seq.0).unwrap_or(usize::MAX)
}
