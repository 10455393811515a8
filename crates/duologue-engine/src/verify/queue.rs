//! What holds for messages that had to wait: each is taken up once, before the session ends.

use std::collections::BTreeMap;

use duologue_protocol::{EventBody, MessageQueued, Seq};

use super::{findings::Findings, invariant::Invariant, snapshot::Entry};
use crate::store::{SessionRecord, SessionStatus};

/// Each `message_queued` becomes one `user_message` that says the same. Only those of an active
/// session may still wait.
pub(super) fn is_taken_up(record: &SessionRecord, log: &[Entry<'_>], findings: &mut Findings<'_>) {
    let broken = Invariant::QueueTakenUp;
    let mut waiting: BTreeMap<Seq, &MessageQueued> = BTreeMap::new();
    for Entry { event, .. } in log {
        let seq = event.seq;
        match &event.body {
            EventBody::MessageQueued(message) => {
                waiting.insert(seq, message);
            }
            EventBody::UserMessage(message) => {
                let Some(queued) = message.queued_seq else {
                    continue;
                };
                match waiting.remove(&queued) {
                    None => findings.add(
                        broken,
                        format!("event {seq} takes up event {queued}, where no message waits"),
                    ),
                    Some(waited) if waited.text != message.text || waited.id != message.id => {
                        findings.add(
                            broken,
                            format!("event {seq} is another message than event {queued}"),
                        );
                    }
                    Some(_) => {}
                }
            }
            EventBody::SessionEnded(_) => {
                for queued in std::mem::take(&mut waiting).into_keys() {
                    findings.add(
                        broken,
                        format!(
                            "the message of event {queued} still waited at the end, event {seq}"
                        ),
                    );
                }
            }
            _ => {}
        }
    }
    if record.status != SessionStatus::Active {
        for queued in waiting.into_keys() {
            findings.add(
                broken,
                format!("the message of event {queued} was never processed"),
            );
        }
    }
}
