//! What becomes of a user's message: it starts a turn, waits for one, or was heard before.

use std::sync::Arc;

use duologue_protocol::{ErrorCode, Event, EventBody, Seq, ServerFrame, UserInput};

use crate::{
    session::Session,
    store::{Hold, Store, StoreError},
};

/// Events read at a time to find a message and the end of its turn. Few turns have more.
const RECEIPT_PAGE_EVENTS: u32 = 16;

impl Session {
    /// Takes a user's message: starts its turn, or lets it wait for the running one.
    pub(super) async fn hear(&mut self, connection: u64, input: UserInput) {
        if self.ending.is_some() || self.draining {
            let message = "the session is closing; send this again after reconnecting";
            self.refuse(connection, ErrorCode::Busy, message, input.id);
            return;
        }
        if let Some(heard) = self.heard_before(&input) {
            return self.repeat_receipt(connection, input, heard).await;
        }
        if self.turn.is_none() {
            self.start_turn(input);
        } else if self.waiting.len() < usize::from(self.context.limits.session.messages_queued_max)
        {
            self.waiting.push_back(input);
        } else {
            let message = "too many messages wait for the running turn; send this again later";
            self.refuse(connection, ErrorCode::Busy, message, input.id);
        }
    }

    /// What was said before under this message's id, if anything was.
    fn heard_before(&self, input: &UserInput) -> Option<Heard> {
        let id = input.id.as_ref()?;
        if let Some(seq) = self.transcript.message_ids.get(id) {
            return Some(Heard::Stored(seq));
        }
        let starts = self.turn.as_ref().and_then(|turn| turn.unrecorded.as_ref());
        let mut unstored = self.waiting.iter().chain(starts);
        let waiting = unstored.find(|waiting| waiting.id.as_ref() == Some(id))?;
        Some(Heard::Waits(Arc::clone(&waiting.text)))
    }

    /// Answers a message that was sent before: by its receipt and, if its turn is over, its end.
    async fn repeat_receipt(&mut self, connection: u64, input: UserInput, heard: Heard) {
        let said = match heard {
            // Its receipt will come with its turn.
            Heard::Waits(text) => Ok((text, Vec::new())),
            Heard::Stored(seq) => {
                let (store, hold) = (self.log.store(), self.log.hold());
                message_and_end(&**store, hold, seq).await
            }
        };
        let (code, message) = match said {
            Ok((text, events)) if text == input.text => {
                for event in events {
                    self.tell(connection, ServerFrame::Event(event));
                }
                return;
            }
            Ok(_) => (
                ErrorCode::IdempotencyMismatch,
                "this message id was used before with another text; use a new one",
            ),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "receipt.not_read");
                (
                    ErrorCode::StorageUnavailable,
                    "the message was received before, but its receipt cannot be read now",
                )
            }
        };
        self.refuse(connection, code, message, input.id);
    }
}

/// What became of a message that was sent before.
enum Heard {
    /// It is in the log.
    Stored(Seq),
    /// It waits for its turn, or for its turn to be stored. This is what it says.
    Waits(Arc<str>),
}

/// Reads the text of the message at `seq`, and its event with the end of its turn, if that is there.
async fn message_and_end(
    store: &dyn Store,
    hold: &Hold,
    seq: Seq,
) -> Result<(Arc<str>, Vec<Event>), StoreError> {
    let mut after = Seq(seq.0 - 1);
    let mut found: Option<(Arc<str>, Event)> = None;
    loop {
        let (user, session) = (&hold.user_id, &hold.session_id);
        let page = store
            .read(user, session, after, RECEIPT_PAGE_EVENTS)
            .await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for event in page {
            match (&event.body, &found) {
                (EventBody::UserMessage(message), None) => {
                    found = Some((Arc::clone(&message.text), event));
                }
                (EventBody::AssistantMessage(_), Some((text, message))) => {
                    return Ok((Arc::clone(text), vec![message.clone(), event]));
                }
                _ => {}
            }
        }
    }
    let missing = || StoreError::Corrupt("the log lacks a message that it had".into());
    let (text, message) = found.ok_or_else(missing)?;
    Ok((text, vec![message]))
}
