//! How a session waits for its storage, and what it does meanwhile.
//!
//! Nearly every operation is done in milliseconds, and the session does nothing else meanwhile. During
//! a longer one it handles what needs no storage: readers are notified that storage is unavailable, a
//! ping is answered, the running turn can be cancelled, and what needs storage is refused at once. The
//! turn's outputs wait in their own bounded queue, so nothing overtakes the log.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use duologue_protocol::{ClientFrame, DegradedReason, ErrorCode, Event, ServerFrame};
use tokio::time::Instant;

use crate::{
    error_frames::refusal,
    log::NewEvent,
    session::{
        actor::Session,
        batch::Batch,
        inbox::{AttachError, Command},
        journal::Written,
    },
    store::{JobClaim, StoreError},
};

/// How long an operation may take, with its repetitions, before readers are notified. A deadlock or a
/// broken connection is over sooner; a client that waits for a receipt notices a longer delay.
const PATIENCE: Duration = Duration::from_secs(1);

impl Session {
    /// Stores `entries` as the next events, all in one commit, and folds them into the transcript.
    pub(super) async fn append(
        &mut self,
        entries: Vec<NewEvent>,
    ) -> Result<Vec<Event>, StoreError> {
        let written = self.write(entries, None).await?;
        Ok(written.events)
    }

    /// As [`Self::append`]. If the session ends with it, its job is enqueued for `claim`.
    pub(super) async fn write(
        &mut self,
        entries: Vec<NewEvent>,
        claim: Option<JobClaim>,
    ) -> Result<Written, StoreError> {
        let write = self.journal.write(entries, claim).store();
        let written = self.wait_for_storage(write).await?;
        self.journal.record(&written.events);
        Ok(written)
    }

    /// Stores a batch in one commit, and then sends its frames.
    pub(super) async fn commit(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        let entries = batch.take_entries();
        let events = if entries.is_empty() {
            Vec::new()
        } else {
            self.append(entries).await?
        };
        let outputs = batch.outputs();
        let (deliveries, barriers) = batch.into_deliveries(events);
        self.readers.send_outputs(deliveries, outputs);
        for barrier in barriers {
            if barrier.send(()).is_err() {
                tracing::debug!("a cancelled turn no longer waits for its barrier");
            }
        }
        Ok(())
    }

    /// Waits for a storage operation. If it takes long, handles commands meanwhile.
    pub(super) async fn wait_for_storage<T>(
        &mut self,
        operation: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let mut operation = pin!(operation);
        let patience_ends = Instant::now() + PATIENCE;
        let result = tokio::select! {
            biased;
            result = &mut operation => result,
            () = self.timer.wait_until(patience_ends) => {
                self.set_degraded(true);
                self.handle_commands_until(operation).await
            }
        };
        if result.is_ok() {
            self.set_degraded(false);
        }
        result
    }

    /// The commands are handled without `.await`, so the operation is polled all the time.
    async fn handle_commands_until<T, F>(&mut self, mut operation: Pin<&mut F>) -> F::Output
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let lost = self.lease_guard.lost();
        loop {
            tokio::select! {
                biased;
                result = &mut operation => return result,
                () = lost.cancelled() => return Err(StoreError::Conflict),
                command = self.inbox.receive() => self.handle_while_degraded(command),
            }
        }
    }

    /// Handles what needs no storage, refuses what cannot wait, and defers the rest.
    fn handle_while_degraded(&mut self, command: Command) {
        match command {
            Command::Attach(attach) => {
                let cause = "the session waits for its storage".into();
                attach.refuse(AttachError::Store(StoreError::Unavailable(cause)));
            }
            Command::Submit(request) => match request.frame {
                ClientFrame::Message(input) => {
                    let message = "storage is unavailable; send this again later";
                    let error = refusal(ErrorCode::StorageUnavailable, message, input.id);
                    self.readers.refuse(request.connection, error);
                }
                ClientFrame::End => self.inbox.defer(Command::Submit(request)),
                frame => self.handle_without_storage(request.connection, &frame),
            },
            Command::Detach { .. } => self.inbox.defer(command),
        }
    }

    /// Notifies readers, once each time, that storage has become unavailable or available.
    pub(super) fn set_degraded(&mut self, is_degraded: bool) {
        if self.journal.set_degraded(is_degraded) == is_degraded {
            return;
        }
        let reason = DegradedReason::Storage;
        if is_degraded {
            tracing::warn!("session.degraded");
            self.readers.broadcast(ServerFrame::Degraded { reason });
        } else {
            tracing::info!("session.recovered");
            self.readers.broadcast(ServerFrame::Recovered { reason });
        }
    }
}
