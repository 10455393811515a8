//! What holds for every log, whatever it tells.

use std::collections::{HashSet, VecDeque};

use duologue_protocol::EventBody;

use super::{
    findings::Findings,
    invariant::Invariant,
    snapshot::{Entry, SessionSnapshot},
};
use crate::transcript::MESSAGE_IDS_MAX;

/// Numbers are 1, 2, 3, …
pub(super) fn is_gap_free(snapshot: &SessionSnapshot, findings: &mut Findings<'_>) {
    let mut expected = 1;
    for row in &snapshot.log {
        if row.seq.0 != expected {
            findings.add(
                Invariant::GapFree,
                format!("event {expected} is missing: the next one is {}", row.seq),
            );
        }
        expected = row.seq.0 + 1;
    }
    let log_end = snapshot.head.log_end.0;
    if expected <= log_end {
        findings.add(
            Invariant::GapFree,
            format!("the log ends at {log_end}, but there is no event {expected}"),
        );
    }
}

/// Each row is an event that this build knows.
pub(super) fn is_readable(snapshot: &SessionSnapshot, findings: &mut Findings<'_>) {
    for row in &snapshot.log {
        if let Err(why) = &row.event {
            findings.add(Invariant::Readable, format!("event {}: {why}", row.seq));
        }
    }
}

/// No id of a message comes back while the session remembers it.
///
/// A session remembers the latest ids only. Here it is held to half of them, so that nothing
/// depends on when exactly an id is forgotten.
pub(super) fn has_messages_once(log: &[Entry<'_>], findings: &mut Findings<'_>) {
    let mut remembered = HashSet::new();
    let mut oldest_first = VecDeque::new();
    for Entry { event, .. } in log {
        let id = match &event.body {
            EventBody::MessageQueued(message) => &message.id,
            // One that waited was counted when it came.
            EventBody::UserMessage(message) if message.queued_seq.is_none() => &message.id,
            _ => continue,
        };
        let Some(id) = id else { continue };
        if !remembered.insert(id) {
            findings.add(
                Invariant::MessageOnce,
                format!(
                    "the message of event {} is there before, by its id",
                    event.seq
                ),
            );
            continue;
        }
        oldest_first.push_back(id);
        if oldest_first.len() > MESSAGE_IDS_MAX / 2
            && let Some(oldest) = oldest_first.pop_front()
        {
            remembered.remove(oldest);
        }
    }
}

/// Epochs never fall along the log, and none is beyond the last claim.
pub(super) fn has_a_single_writer(claimed: u64, log: &[Entry<'_>], findings: &mut Findings<'_>) {
    for pair in log.windows(2) {
        let [before, next] = pair else { continue };
        if next.epoch < before.epoch {
            findings.add(
                Invariant::SingleWriter,
                format!(
                    "event {} was written under epoch {}, after one of epoch {}",
                    next.event.seq, next.epoch, before.epoch
                ),
            );
        }
    }
    for Entry { epoch, event } in log {
        if !(1..=claimed).contains(epoch) {
            findings.add(
                Invariant::SingleWriter,
                format!(
                    "event {} was written under epoch {epoch}, and claims went from 1 to {claimed}",
                    event.seq
                ),
            );
        }
    }
}

/// No event is earlier than the one before it.
pub(super) fn has_time_going_forward(log: &[Entry<'_>], findings: &mut Findings<'_>) {
    for pair in log.windows(2) {
        let [before, next] = pair else { continue };
        let (before, next) = (before.event, next.event);
        if next.occurred_at < before.occurred_at {
            findings.add(
                Invariant::TimeForward,
                format!(
                    "event {} occurred at {}, the one before it at {}",
                    next.seq, next.occurred_at, before.occurred_at
                ),
            );
        }
    }
}
