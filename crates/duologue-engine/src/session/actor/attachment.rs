//! Attaches and detaches readers.

use std::sync::Arc;

use duologue_protocol::{
    ClientConnected, ClientDisconnected, ConnectionId, DisconnectReason, EndReason, EventBody, Seq,
    ServerFrame,
};
use tokio::time::Instant;

use crate::{
    log::NewEvent,
    reader::{self, CatchUp, Delivery, SharedFrame, Welcome},
    session::{
        actor::Session,
        exit::SessionExit,
        inbox::{Attach, AttachError, ReaderSlot},
        position::Position,
        recovery::FIRST_CONNECTION,
    },
};

impl Session {
    /// Attaches a reader: stores that it connected, then sends it what it needs to catch up.
    pub(super) async fn attach(&mut self, attach: Attach) -> Result<(), SessionExit> {
        if attach.reply.is_closed() {
            // The requester has given up. Its coming and going would only fill the log.
            return Ok(());
        }
        let slot = match self.reader_slot() {
            Ok(slot) => slot,
            Err(error) => {
                attach.refuse(error);
                return Ok(());
            }
        };
        let (last_seq, connection, events) = if let Some(events) = self.first_arrival.take() {
            (Seq::ZERO, FIRST_CONNECTION, events)
        } else {
            let last_seq = self.journal.transcript().last_seq;
            let connection = self.journal.transcript().connections.next();
            let entries = self.arrival(connection);
            (last_seq, connection, self.append(entries).await?)
        };
        let arrival: Vec<_> = events
            .into_iter()
            .map(|event| SharedFrame::new(self.facts.arrival_frame(event)))
            .collect();
        // The other readers see that it connected.
        for frame in &arrival {
            self.readers.deliver(&Delivery::Frame(Arc::clone(frame)));
        }
        self.lifecycle.reader_attached(Instant::now());
        let requests = slot.requests(connection);
        let (limits, in_flight) = (&self.context.limits.session, &self.context.in_flight);
        let reader = self.readers.attach(|draft| {
            let draft = draft.map(SharedFrame::new);
            let welcome = self.welcome(attach.position, last_seq, arrival, draft);
            reader::open(connection, welcome, requests, limits, in_flight)
        });
        // If the requester has given up, the reader is dropped here, which detaches it again.
        drop(attach.reply.send(Ok(reader)));
        // Messages that the last holder left in the queue wait for a reader.
        self.start_queued_turn();
        Ok(())
    }

    /// A place for one more reader. Reserved before its coming is stored: from then on its departure
    /// must be handled as well.
    fn reader_slot(&self) -> Result<ReaderSlot, AttachError> {
        if self.lifecycle.is_draining() {
            return Err(AttachError::ShuttingDown);
        }
        if self.lifecycle.is_ending() {
            // It can be reopened when it has ended.
            return Err(AttachError::Gone);
        }
        if self.readers.len() >= usize::from(self.context.limits.session.readers_max) {
            return Err(AttachError::Busy);
        }
        self.inbox.reader_slot()
    }

    /// The events of a reader's coming; for the first one, also that the session started.
    fn arrival(&mut self, connection: ConnectionId) -> Vec<NewEvent> {
        let reopened = std::mem::take(&mut self.reopened);
        let connected = EventBody::ClientConnected(ClientConnected {
            connection,
            reopened,
        });
        let start = self.journal.start(&self.facts.agent);
        start.into_iter().chain([(None, connected)]).collect()
    }

    /// What a reader receives first. Frames that are queued for it from now on follow directly after:
    /// the log up to now is replayed, or else only its own arrival is sent.
    fn welcome(
        &self,
        position: Option<Position>,
        last_seq: Seq,
        mut arrival: Vec<Arc<SharedFrame>>,
        draft: Option<Arc<SharedFrame>>,
    ) -> Welcome {
        let unknown_position = position
            .as_ref()
            .and_then(|position| self.facts.unknown_position(position, last_seq))
            .map(|error| SharedFrame::new(ServerFrame::Error(error)));
        let is_known = unknown_position.is_none();
        if last_seq == Seq::ZERO {
            // The client may have known a session that was erased or not restored.
            arrival.splice(1..1, unknown_position);
            return Welcome {
                greeting: arrival,
                catch_up: None,
            };
        }
        let first = self.facts.resumed_frame(self.journal.lease(), last_seq);
        let mut greeting = vec![SharedFrame::new(first)];
        if let Some(position) = position.filter(|_| is_known) {
            let catch_up = CatchUp {
                store: Arc::clone(self.journal.store()),
                lease: self.journal.lease().clone(),
                after: position.after,
                until: self.journal.transcript().last_seq,
                then: draft,
            };
            return Welcome {
                greeting,
                catch_up: Some(catch_up),
            };
        }
        greeting.extend(unknown_position);
        greeting.extend(arrival);
        greeting.extend(draft);
        Welcome {
            greeting,
            catch_up: None,
        }
    }

    /// A reader is gone. If it closed cleanly, its client is done with the session; otherwise the loss
    /// of the last reader starts the grace.
    pub(super) async fn detach(
        &mut self,
        connection: ConnectionId,
        reason: DisconnectReason,
    ) -> Result<(), SessionExit> {
        self.readers.remove(connection);
        let gone = EventBody::ClientDisconnected(ClientDisconnected { connection, reason });
        if reason == DisconnectReason::Closed && !self.turn.is_running() {
            return self.end(vec![(None, gone)], EndReason::Closed).await;
        }
        let events = self.append(vec![(None, gone)]).await?;
        self.readers.broadcast_events(events);
        if reason == DisconnectReason::Closed {
            return self.request_end(EndReason::Closed).await;
        }
        if self.readers.is_empty() {
            self.lifecycle.last_reader_lost(Instant::now());
        }
        Ok(())
    }
}
