//! What becomes of a user's message: it starts a turn, waits for one, or was heard before.

use std::sync::Arc;

use duologue_protocol::{
    ConnectionId, ErrorCode, Event, EventBody, FinishReason, MessageQueued, OnBusy, Seq,
    ServerFrame, UserInput, UserMessage,
};

use crate::{
    session::{Session, Step, recording::Moment},
    store::{Lease, Store, StoreError},
    transcript::Place,
};

/// Events read at a time to find the end of a message's turn. Few turns have more.
const RECEIPT_PAGE_EVENTS: u32 = 16;

impl Session {
    /// Takes a user's message: starts its turn, or does what the message wants of a busy session.
    pub(super) async fn hear(&mut self, connection: ConnectionId, input: UserInput) -> Step {
        if let Some(heard) = self.heard_before(&input) {
            self.repeat_receipt(connection, input, heard).await;
            return Ok(());
        }
        let limits = &self.context.limits.session;
        let is_full = self.waiting_count() >= usize::from(limits.messages_queued_max);
        let on_busy = input.on_busy.unwrap_or(limits.on_busy);
        let why_not = if self.ending.is_some() || self.draining {
            "the session is closing; send this again after reconnecting"
        } else if self.turn.is_none() {
            self.begin(connection, input);
            return Ok(());
        } else if on_busy == OnBusy::Reject {
            "a turn is running; send this again when it is over"
        } else if is_full {
            "too many messages wait for the running turn; send this again later"
        } else {
            self.refresh_account();
            if let Err(refusal) = self
                .context
                .budgets
                .accept(&self.user_budget, self.budget_query())
            {
                self.refuse_turn(connection, &refusal, input.id);
                return Ok(());
            }
            return self.queue(input, on_busy).await;
        };
        self.refuse(connection, ErrorCode::Busy, why_not, input.id);
        Ok(())
    }

    /// Starts the turn of a message, if its user may have one now.
    fn begin(&mut self, connection: ConnectionId, input: UserInput) {
        self.refresh_account();
        match self
            .context
            .budgets
            .begin(&self.user_budget, self.budget_query())
        {
            Err(refusal) => self.refuse_turn(connection, &refusal, input.id),
            Ok(reservation) => {
                let message = UserMessage {
                    text: input.text,
                    id: input.id,
                    queued_seq: None,
                };
                self.start_turn(message, Some(reservation));
            }
        }
    }

    /// Lets a message wait for the running turn, which it may stop. It is stored before anyone is
    /// told, and the running turn's own message before it, so that the log has the users' order.
    async fn queue(&mut self, input: UserInput, on_busy: OnBusy) -> Step {
        let mut moment = Moment::default();
        if let Some(turn) = &mut self.turn {
            moment.begin(turn);
        }
        let UserInput { text, id, .. } = input;
        let queued = MessageQueued { text, id, on_busy };
        moment.event(None, EventBody::MessageQueued(queued));
        self.commit(moment).await?;
        if let (OnBusy::Interrupt, Some(turn)) = (on_busy, &mut self.turn) {
            turn.stop(FinishReason::Cancelled);
        }
        Ok(())
    }

    /// How many messages wait. One whose turn has started is in the queue until that is stored.
    fn waiting_count(&self) -> usize {
        let starts = self.turn.as_ref().and_then(|turn| turn.unrecorded.as_ref());
        let is_starting = starts.is_some_and(|message| message.queued_seq.is_some());
        self.transcript.queue.len() - usize::from(is_starting)
    }

    /// What was said before under this message's id, if anything was.
    fn heard_before(&self, input: &UserInput) -> Option<Heard> {
        let id = input.id.as_ref()?;
        if let Some(place) = self.transcript.message_ids.get(id) {
            return Some(Heard::Stored(place));
        }
        let unrecorded = self.turn.as_ref()?.unrecorded.as_ref()?;
        (unrecorded.id.as_ref() == Some(id)).then(|| Heard::Starts(Arc::clone(&unrecorded.text)))
    }

    /// Answers a message that was sent before: by what is stored of it, up to the end of its turn.
    async fn repeat_receipt(&mut self, connection: ConnectionId, input: UserInput, heard: Heard) {
        let said = match heard {
            // Its receipt is about to come.
            Heard::Starts(text) => Ok((text, Vec::new())),
            Heard::Stored(place) => {
                let (store, lease) = (self.log.store(), self.log.lease());
                story(&**store, lease, place).await
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
    Stored(Place),
    /// Its turn starts, and is about to be stored. This is what it says.
    Starts(Arc<str>),
}

/// Reads what is stored of a message: that it had to wait, that its turn began, and that it is over.
/// Its text comes with it.
async fn story(
    store: &dyn Store,
    lease: &Lease,
    place: Place,
) -> Result<(Arc<str>, Vec<Event>), StoreError> {
    let mut events = Vec::new();
    if let Some(seq) = place.queued {
        events.extend(page(store, lease, seq, 1).await?);
    }
    if let Some(seq) = place.said {
        events.extend(message_and_end(store, lease, seq).await?);
    }
    let text = match events.first().map(|event| &event.body) {
        Some(
            EventBody::MessageQueued(MessageQueued { text, .. })
            | EventBody::UserMessage(UserMessage { text, .. }),
        ) => Arc::clone(text),
        _ => {
            return Err(StoreError::Corrupt(
                "the log lacks a message that it had".into(),
            ));
        }
    };
    Ok((text, events))
}

/// Reads the message at `seq`, and the end of its turn, if that is there.
async fn message_and_end(
    store: &dyn Store,
    lease: &Lease,
    seq: Seq,
) -> Result<Vec<Event>, StoreError> {
    let mut found = Vec::new();
    let mut next = seq;
    loop {
        let page = page(store, lease, next, RECEIPT_PAGE_EVENTS).await?;
        let Some(last) = page.last() else { break };
        next = last.seq.next();
        for event in page {
            let is_end = matches!(event.body, EventBody::AssistantMessage(_));
            if is_end || event.seq == seq {
                found.push(event);
            }
            if is_end {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Reads the events from `seq` on.
async fn page(
    store: &dyn Store,
    lease: &Lease,
    seq: Seq,
    limit: u32,
) -> Result<Vec<Event>, StoreError> {
    let (user, session) = (&lease.user_id, &lease.session_id);
    store.read(user, session, Seq(seq.0 - 1), limit).await
}
