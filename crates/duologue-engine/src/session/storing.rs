//! Storing events, and what a session does while its store gives it trouble.
//!
//! Nearly every write is done in milliseconds, and the session does nothing else meanwhile. Only a
//! write that takes longer than that is waited for with an open ear: readers are told that the
//! store is away, a ping is answered, the running turn can be cancelled, and whoever wants something
//! stored is refused at once. What the turn puts out waits in its own bounded queue, so nothing
//! overtakes the log.

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use duologue_protocol::{ClientFrame, DegradedReason, ErrorCode, ErrorFrame, Event, ServerFrame};

use crate::{
    log::Entry,
    session::{AttachError, Command, Session},
    store::StoreError,
};

/// How long a write may take, with its repetitions, before readers are told. A deadlock or a broken
/// connection is over sooner; what takes longer is felt by whoever waits for a receipt.
const PATIENCE: Duration = Duration::from_secs(1);

impl Session {
    /// Stores `entries` as the next events, all in one commit, and folds them into the transcript.
    pub(super) async fn append(&mut self, entries: Vec<Entry>) -> Result<Vec<Event>, StoreError> {
        let write = self.log.write(&self.transcript, entries);
        {
            let mut storing = pin!(write.store());
            tokio::select! {
                biased;
                stored = &mut storing => stored?,
                () = tokio::time::sleep(PATIENCE) => self.wait_out(storing).await?,
            }
        }
        let events = write.into_events();
        for event in &events {
            self.transcript.apply(event);
        }
        self.store_is_back();
        Ok(events)
    }

    /// Waits for a write in trouble, and minds the readers meanwhile.
    async fn wait_out<F>(&mut self, mut storing: Pin<&mut F>) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        self.store_is_away();
        let lost = self.lease_guard.lost();
        loop {
            tokio::select! {
                biased;
                stored = &mut storing => return stored,
                () = lost.cancelled() => return Err(StoreError::Conflict),
                // Once nobody can ask any more, this arm is left out.
                Some(command) = self.inbox.recv() => self.mind(command),
            }
        }
    }

    /// Does what can be done without the store, and refuses what cannot. The rest is set aside: one
    /// wish to end, and the departures, of which each reader has one.
    fn mind(&mut self, command: Command) {
        match command {
            Command::Attach(attach) => {
                let cause = "the session waits for its store".into();
                let refusal = AttachError::Store(StoreError::Unavailable(cause));
                // Whoever does not listen any more needs no answer.
                drop(attach.reply.send(Err(refusal)));
            }
            Command::Submit {
                connection,
                frame,
                load,
            } => match frame {
                ClientFrame::Message(input) => {
                    let message = "the store does not answer; send this again later";
                    self.refuse(connection, ErrorCode::StorageUnavailable, message, input.id);
                }
                ClientFrame::End => {
                    let is_end = |command: &Command| {
                        let Command::Submit { frame, .. } = command else {
                            return false;
                        };
                        *frame == ClientFrame::End
                    };
                    if !self.set_aside.iter().any(is_end) {
                        self.set_aside.push_back(Command::Submit {
                            connection,
                            frame,
                            load,
                        });
                    }
                }
                other => self.answer_at_once(connection, &other),
            },
            Command::Detach { .. } => self.set_aside.push_back(command),
        }
    }

    /// The store does not answer. Readers are told once.
    pub(super) fn store_is_away(&mut self) {
        if !self.is_degraded {
            self.is_degraded = true;
            tracing::warn!("session.degraded");
            self.broadcast(ServerFrame::Degraded {
                reason: DegradedReason::Storage,
            });
        }
    }

    /// The store answers. Readers who were told otherwise are told so.
    pub(super) fn store_is_back(&mut self) {
        if self.is_degraded {
            self.is_degraded = false;
            tracing::info!("session.recovered");
            self.broadcast(ServerFrame::Recovered {
                reason: DegradedReason::Storage,
            });
        }
    }

    /// Tells readers that the store was waited for in vain, and which turn stays without its end for
    /// now: the session's next holder closes it.
    pub(super) fn report_unstored(&self) {
        let message = "the store does not answer; what was not acknowledged was not stored";
        let error = ErrorFrame::new(ErrorCode::StorageUnavailable, message)
            .with_turn(self.transcript.open_turn);
        self.broadcast(ServerFrame::Error(error));
    }
}
