//! One session of the store in memory: its record, its log, and who holds it.

use std::time::Duration;

use duologue_protocol::{Event, EventBody, LogId, Seq, SummaryStatus, Timestamp, Usage};
use serde_json::json;
use tokio::time::Instant;

use duologue_engine::store::{
    Abandoned, Claim, Claimed, Draft, Lease, ServerId, SessionRecord, SessionStatus, StoreError,
    Sweep,
    normalize::{Ending, stored_payload, stored_time},
};

/// By how much a restore raises every epoch: more than any server can have claimed after the backup.
const RESTORED_EPOCHS: u64 = 1_000_000;

pub(super) struct Session {
    pub(super) record: SessionRecord,
    pub(super) epoch: u64,
    pub(super) owner: Option<ServerId>,
    pub(super) lease_until: Instant,
    pub(super) events: Vec<EventRow>,
    pub(super) draft: Option<Draft>,
}

#[derive(PartialEq)]
pub(super) struct EventRow {
    pub(super) epoch: u64,
    occurred_at: Timestamp,
    event_type: &'static str,
    payload: String,
}

impl Session {
    pub(super) fn new(claim: &Claim, log_id: LogId) -> Self {
        let record = SessionRecord {
            session_id: claim.session_id.clone(),
            user_id: claim.user_id.clone(),
            status: SessionStatus::Active,
            start_time: stored_time(claim.now),
            end_time: None,
            duration_seconds: None,
            summary: None,
            summary_status: None,
            end_reason: None,
            agent: claim.agent.clone(),
            metadata: json!({}),
            last_seq: Seq::ZERO,
            log_id,
        };
        Self {
            record,
            epoch: 0,
            owner: None,
            lease_until: Instant::now(),
            events: Vec::new(),
            draft: None,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.record.status == SessionStatus::Active
    }

    /// Whether the sweeping server names it as one that it still holds.
    pub(super) fn is_abandoned(&self, sweep: &Sweep) -> bool {
        let is_named = |named: &Abandoned| {
            named.session_id == self.record.session_id
                && named.user_id == self.record.user_id
                && named.epoch.is_none_or(|epoch| epoch == self.epoch)
        };
        self.owner.as_ref() == Some(&sweep.server) && sweep.abandoned.iter().any(is_named)
    }

    pub(super) fn reopen(&mut self) {
        if !self.is_active() {
            self.record.status = SessionStatus::Active;
            self.record.end_time = None;
            self.record.duration_seconds = None;
            self.record.end_reason = None;
            self.record.summary_status = None;
        }
    }

    pub(super) fn claim(&mut self, server: &ServerId, lease_duration: Duration) -> Claimed {
        self.epoch += 1;
        self.owner = Some(server.clone());
        self.lease_until = Instant::now() + lease_duration;
        let last = self.events.last().map(|row| row.event_type);
        Claimed {
            lease: Lease {
                session_id: self.record.session_id.clone(),
                user_id: self.record.user_id.clone(),
                server: server.clone(),
                epoch: self.epoch,
            },
            session: self.record.clone(),
            reopened: matches!(last, Some("session_ended" | "session_summarized")),
            draft: self.draft.clone(),
            started: false,
            tokens_spent: None,
        }
    }

    /// See [`OperatorStore::restored`](crate::store::operators::OperatorStore::restored).
    pub(super) fn restored(&mut self, log_id: LogId) {
        self.record.log_id = log_id;
        self.epoch += RESTORED_EPOCHS;
        self.give_up();
    }

    pub(super) fn give_up(&mut self) {
        self.owner = None;
        self.lease_until = Instant::now();
    }

    pub(super) fn append(&mut self, after: Seq, events: &[Event]) -> Result<(), StoreError> {
        if self.record.last_seq != after {
            return Err(StoreError::Conflict);
        }
        for event in events {
            self.events.push(EventRow::new(self.epoch, event));
            if matches!(event.body, EventBody::AssistantMessage(_)) {
                self.draft = None;
            }
        }
        self.record.last_seq = Seq(self.events.len() as u64);
        Ok(())
    }

    pub(super) fn tokens_spent(&self, since: Timestamp) -> Result<u64, StoreError> {
        let mut spent: u64 = 0;
        for (seq, row) in (1..).map(Seq).zip(&self.events) {
            if row.occurred_at >= since
                && let EventBody::AssistantMessage(answer) = row.event(seq)?.body
            {
                spent = spent.saturating_add(answer.usage.map_or(0, Usage::total));
            }
        }
        Ok(spent)
    }

    pub(super) fn end(&mut self, ending: Ending) {
        let record = &mut self.record;
        record.status = SessionStatus::Ended;
        record.end_time = Some(ending.time);
        record.duration_seconds = Some(ending.duration_seconds(record.start_time));
        record.end_reason = Some(ending.reason);
        record.summary_status = Some(SummaryStatus::Pending);
        self.draft = None;
        self.give_up();
    }
}

impl EventRow {
    pub(super) fn new(epoch: u64, event: &Event) -> Self {
        Self {
            epoch,
            occurred_at: stored_time(event.occurred_at),
            event_type: event.body.event_type(),
            payload: stored_payload(event),
        }
    }

    pub(super) fn event(&self, seq: Seq) -> Result<Event, StoreError> {
        let corrupt = |error: duologue_engine::BoxError| StoreError::Corrupt(error);
        let payload = serde_json::from_str(&self.payload).map_err(|error| corrupt(error.into()))?;
        Event::read(seq, self.occurred_at, self.event_type, payload)
            .map_err(|error| corrupt(error.into()))
    }
}
