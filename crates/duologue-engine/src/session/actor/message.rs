//! Handles users' messages.

use duologue_protocol::{
    ConnectionId, ErrorCode, ErrorFrame, EventBody, FinishReason, MessageId, MessageQueued, OnBusy,
    ServerFrame, UserInput, UserMessage,
};

use crate::{
    budgets::BudgetRefusal,
    error_frames::{refusal, refusal_until},
    log::Receipt,
    session::{
        actor::Session,
        batch::Batch,
        exit::SessionExit,
        messages::{
            Duplicate, MessageQueueState, Obstacle, Reception, find_duplicate, receive,
            waiting_count,
        },
    },
    store::StoreError,
};

impl Session {
    /// Handles a user's message: starts its turn, queues it, refuses it, or repeats its receipt.
    pub(super) async fn handle_message(
        &mut self,
        connection: ConnectionId,
        input: UserInput,
        origin: &tracing::Span,
    ) -> Result<(), SessionExit> {
        let transcript = self.journal.transcript();
        if let Some(duplicate) = find_duplicate(&input, transcript, self.turn.unrecorded()) {
            return self.repeat_receipt(connection, input, duplicate).await;
        }
        // Messages that were held back come first.
        self.start_queued_turn();
        let on_busy = input.on_busy.unwrap_or(self.context.limits.session.on_busy);
        match receive(self.message_queue_state(), on_busy) {
            Reception::Start => self.start_message(connection, input, origin),
            Reception::Queue(on_busy) => {
                return self.queue_message(connection, input, on_busy).await;
            }
            Reception::Refuse(reason) => {
                let error = refusal(ErrorCode::Busy, reason, input.id);
                self.readers.refuse(connection, error);
            }
        }
        Ok(())
    }

    fn message_queue_state(&mut self) -> MessageQueueState {
        let obstacle = if self.turn.is_running() {
            Some(Obstacle::Turn)
        } else {
            (!self.may_start_turn()).then_some(Obstacle::Lease)
        };
        let waiting = waiting_count(self.journal.transcript(), self.turn.unrecorded());
        MessageQueueState {
            is_closing: self.lifecycle.is_ending() || self.lifecycle.is_draining(),
            obstacle,
            is_full: waiting >= usize::from(self.context.limits.session.messages_queued_max),
        }
    }

    /// Starts the turn of a message, if its user's budget allows it.
    fn start_message(
        &mut self,
        connection: ConnectionId,
        input: UserInput,
        origin: &tracing::Span,
    ) {
        self.budget.refresh_if_outdated();
        match self.budget.begin(self.journal.transcript().tokens) {
            Err(refusal) => {
                self.readers
                    .refuse(connection, over_budget(&refusal, input.id));
            }
            Ok(reservation) => {
                let message = UserMessage {
                    text: input.text,
                    id: input.id,
                    queued_seq: None,
                };
                self.start_turn(message, Some(reservation), origin);
            }
        }
    }

    /// Queues a message behind the running turn, which it may stop. It is stored before anyone is
    /// notified, and the running turn's own message before it, so that the log has the users' order.
    async fn queue_message(
        &mut self,
        connection: ConnectionId,
        input: UserInput,
        on_busy: OnBusy,
    ) -> Result<(), SessionExit> {
        self.budget.refresh_if_outdated();
        if let Err(refusal) = self.budget.accept(self.journal.transcript().tokens) {
            self.readers
                .refuse(connection, over_budget(&refusal, input.id));
            return Ok(());
        }
        let mut batch = Batch::default();
        self.turn.record_start(&mut batch);
        let UserInput { text, id, .. } = input;
        let queued = MessageQueued { text, id, on_busy };
        batch.event(None, EventBody::MessageQueued(queued));
        self.commit(batch).await?;
        if on_busy == OnBusy::Interrupt {
            self.turn.stop(FinishReason::Cancelled);
        }
        Ok(())
    }

    /// Answers a message that was received before, with what is stored of it.
    async fn repeat_receipt(
        &mut self,
        connection: ConnectionId,
        input: UserInput,
        duplicate: Duplicate,
    ) -> Result<(), SessionExit> {
        let receipt = match duplicate {
            // Its receipt is about to be sent.
            Duplicate::Starting(text) => Ok(Receipt {
                text,
                events: Vec::new(),
            }),
            Duplicate::Stored(position) => {
                let read = self.journal.read_receipt(position);
                self.wait_for_storage(read).await
            }
        };
        let (code, message) = match receipt {
            Ok(Receipt { text, events }) if text == input.text => {
                // The log is read without a lease. What another server has written after a takeover would
                // leave a gap on this connection.
                let last_seq = self.journal.transcript().last_seq;
                if events.iter().any(|event| event.seq > last_seq) {
                    return Err(StoreError::Conflict.into());
                }
                for event in events {
                    self.readers.send(connection, ServerFrame::Event(event));
                }
                return Ok(());
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
        self.readers
            .refuse(connection, refusal(code, message, input.id));
        Ok(())
    }
}

/// Refuses a message that the budget does not allow now.
fn over_budget(refusal: &BudgetRefusal, id: Option<MessageId>) -> ErrorFrame {
    refusal_until(refusal.code, refusal.message, id, refusal.retry_after)
}
