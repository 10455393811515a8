//! What becomes of a user's message: it starts a turn, waits for one, or was heard before.

use duologue_protocol::{ErrorCode, Event, EventBody, Seq, ServerFrame, UserInput};

use crate::{
    log::for_each_event,
    session::{Session, Step},
    store::StoreError,
};

impl Session {
    /// Takes a user's message: starts its turn, or lets it wait for the running one.
    pub(super) async fn hear(&mut self, connection: u64, input: UserInput) -> Step {
        if self.ending.is_some() || self.draining {
            let message = "the session is closing; send this again after reconnecting";
            self.refuse(connection, ErrorCode::Busy, message, input.id);
            return Ok(());
        }
        if self.is_known(&input) {
            return self.repeat_receipt(connection, input).await;
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
        Ok(())
    }

    fn is_known(&self, input: &UserInput) -> bool {
        let Some(id) = &input.id else { return false };
        let waits = |waiting: &UserInput| waiting.id.as_ref() == Some(id);
        let starts = self.turn.as_ref().and_then(|turn| turn.unrecorded.as_ref());
        self.transcript.message_ids.contains_key(id)
            || self.waiting.iter().any(waits)
            || starts.is_some_and(waits)
    }

    /// Answers a message that was sent before: by its receipt and, if its turn is over, its end.
    async fn repeat_receipt(&mut self, connection: u64, input: UserInput) -> Step {
        let place = input
            .id
            .as_ref()
            .and_then(|id| self.transcript.message_ids.get(id));
        let Some((seq, text)) = place.cloned() else {
            // It waits for its turn; its receipt will come then.
            return Ok(());
        };
        if text != input.text {
            let message = "this message id was used before with another text; use a new one";
            let code = ErrorCode::IdempotencyMismatch;
            self.refuse(connection, code, message, input.id);
            return Ok(());
        }
        for event in self.message_and_end(seq).await? {
            self.tell(connection, ServerFrame::Event(event));
        }
        Ok(())
    }

    /// Reads the message at `seq` and the end of its turn, if that is there.
    async fn message_and_end(&self, seq: Seq) -> Result<Vec<Event>, StoreError> {
        let hold = self.log.hold();
        let after = Seq(seq.0 - 1);
        let mut found: Vec<Event> = Vec::new();
        for_each_event(&*self.context.store, hold, after, |event| {
            let is_end = matches!(event.body, EventBody::AssistantMessage(_));
            let belongs = found
                .first()
                .is_none_or(|first| first.turn_id == event.turn_id);
            if found.is_empty() || (is_end && belongs) {
                found.push(event);
            }
        })
        .await?;
        Ok(found)
    }
}
