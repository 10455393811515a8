//! Writes as the functions take them.

use std::ops::Range;

use duologue_engine::store::{
    Claim, Draft, Lease,
    normalize::{stored_payload, stored_text},
};
use duologue_protocol::{Event, Seq};

use super::call::JsonObject;
use crate::stored::text_of_time;

/// The size of a set of drafts in one write, in bytes: appends in the same batch do not wait long for it.
const DRAFTS_BYTES_MAX: usize = 256 * 1024;

/// Drafts that are one write.
pub(super) struct DraftSet {
    /// Which of the drafts given.
    pub(super) range: Range<usize>,
    /// As JSON.
    pub(super) items: String,
}

/// Adds what a write under a lease is checked against.
pub(super) fn under(lease: &Lease, item: JsonObject) -> JsonObject {
    item.with("session_id", &lease.session_id)
        .with("user_id", &lease.user_id)
        .with("server", &lease.server)
        .with("epoch", lease.epoch)
}

pub(super) fn claim_item(claim: &Claim) -> String {
    let item = JsonObject::new()
        .with("session_id", &claim.session_id)
        .with("user_id", &claim.user_id)
        .with("agent", stored_text(&claim.agent))
        .with("server", &claim.server)
        .with("lease_seconds", claim.lease_duration.as_secs_f64())
        .with("started_at", text_of_time(claim.now))
        .with_json("events", &events_json(&claim.first_events));
    let item = match claim.spent_since {
        Some(since) => item.with("spent_since", text_of_time(since)),
        None => item,
    };
    item.finish()
}

/// Events that are appended after `after`.
pub(super) fn log_item(after: Seq, events: &[Event]) -> JsonObject {
    let item = JsonObject::new().with("after_seq", after);
    item.with_json("events", &events_json(events))
}

fn events_json(events: &[Event]) -> String {
    let events: Vec<_> = events.iter().map(event_json).collect();
    format!("[{}]", events.join(","))
}

/// An event. Its number follows from its place.
pub(super) fn event_json(event: &Event) -> String {
    format!(
        r#"{{"event_type":"{}","occurred_at":"{}","payload":{}}}"#,
        event.body.event_type(),
        text_of_time(event.occurred_at),
        stored_payload(event),
    )
}

/// Divides drafts into sets of at most [`DRAFTS_BYTES_MAX`]; one that is larger is alone.
pub(super) fn draft_sets(drafts: &[(Lease, Draft)]) -> Vec<DraftSet> {
    let mut sets: Vec<DraftSet> = Vec::new();
    for (position, (lease, draft)) in drafts.iter().enumerate() {
        let item = JsonObject::new()
            .with("turn_id", draft.turn_id)
            .with("text", stored_text(&draft.text));
        let item = under(lease, item).finish();
        match sets.last_mut() {
            Some(set) if set.items.len() + item.len() < DRAFTS_BYTES_MAX => {
                set.items.push(',');
                set.items.push_str(&item);
                set.range.end = position + 1;
            }
            _ => sets.push(DraftSet {
                range: position..position + 1,
                items: item,
            }),
        }
    }
    sets
}
