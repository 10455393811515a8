//! What holds for every turn: it has one end, and its tool calls have one result each.

use duologue_protocol::{CallId, Event, EventBody};

use super::{findings::Findings, invariant::Invariant, snapshot::Entry};
use crate::store::{SessionRecord, SessionStatus};

/// Each user's message has exactly one `assistant_message`, in its own turn, before the next one
/// and before the session's end. Only the last one of an active session may still wait for it.
pub(super) fn are_closed(record: &SessionRecord, log: &[Entry<'_>], findings: &mut Findings<'_>) {
    let broken = Invariant::TurnClosed;
    let mut open: Option<&Event> = None;
    for Entry { event, .. } in log {
        let seq = event.seq;
        match (&event.body, open) {
            (EventBody::UserMessage(_), Some(asked)) => {
                findings.add(
                    broken,
                    format!(
                        "the message of event {} has no end before that of event {seq}",
                        asked.seq
                    ),
                );
                open = Some(event);
            }
            (EventBody::UserMessage(_), None) => open = Some(event),
            (EventBody::AssistantMessage(_), None) => {
                findings.add(broken, format!("event {seq} ends a turn, and none is open"));
            }
            (EventBody::AssistantMessage(_), Some(asked)) => {
                if event.turn_id != asked.turn_id {
                    findings.add(
                        broken,
                        format!(
                            "event {seq} ends another turn than event {} began",
                            asked.seq
                        ),
                    );
                }
                open = None;
            }
            (EventBody::SessionEnded(_), Some(asked)) => {
                findings.add(
                    broken,
                    format!(
                        "the session ended at event {seq} before the turn of event {} did",
                        asked.seq
                    ),
                );
                open = None;
            }
            _ => {}
        }
    }
    if let Some(asked) = open
        && record.status != SessionStatus::Active
    {
        findings.add(
            broken,
            format!("the message of event {} will never have an end", asked.seq),
        );
    }
}

/// Each result answers a call that was made and not answered before, and no turn ends without its
/// results: a model refuses a conversation that has a call left open.
pub(super) fn have_their_calls_answered(log: &[Entry<'_>], findings: &mut Findings<'_>) {
    let broken = Invariant::CallAnswered;
    // An id may come again once its call is answered: endpoints count within one answer.
    let mut open: Vec<&CallId> = Vec::new();
    for Entry { event, .. } in log {
        let seq = event.seq;
        match &event.body {
            EventBody::ToolCall(call) => {
                if open.contains(&&call.call_id) {
                    findings.add(
                        broken,
                        format!(
                            "event {seq} is a call under the id of one that waits for its result"
                        ),
                    );
                } else {
                    open.push(&call.call_id);
                }
            }
            EventBody::ToolResult(result) => {
                match open.iter().position(|id| **id == result.call_id) {
                    Some(at) => drop(open.swap_remove(at)),
                    None => findings.add(
                        broken,
                        format!("event {seq} is a result, and no call waits for it"),
                    ),
                }
            }
            EventBody::AssistantMessage(_) if !open.is_empty() => {
                findings.add(
                    broken,
                    format!(
                        "the turn ended at event {seq} with {} calls unanswered",
                        open.len()
                    ),
                );
                open.clear();
            }
            _ => {}
        }
    }
}
