//! Readers come and go.

use std::sync::Arc;

use duologue_protocol::{
    ClientConnected, ClientDisconnected, ConnectionId, DisconnectReason, EndReason, ErrorCode,
    ErrorFrame, Event, EventBody, Seq, ServerFrame, SessionOpened, SessionStarted,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    log::Entry,
    reader::{self, CatchUp, SharedFrame, Welcome},
    session::{Attach, AttachError, Command, Session, Step, running::RunningTurn},
};

/// The frame that a new reader receives for an event of its arrival.
fn first_frame(event: Event) -> ServerFrame {
    match event.body {
        EventBody::SessionStarted(started) => ServerFrame::Opened(SessionOpened::new_session(
            event.seq,
            event.occurred_at,
            started,
        )),
        _ => ServerFrame::Event(event),
    }
}

/// What a reader needs from the session's inbox.
struct Place {
    commands: mpsc::Sender<Command>,
    departure: mpsc::OwnedPermit<Command>,
}

impl Session {
    /// Lets a reader in: records that it came, then hands it what it needs to follow.
    pub(super) async fn attach(&mut self, attach: Attach) -> Step {
        let Attach { after, reply } = attach;
        if reply.is_closed() {
            // Whoever asked has given up. Its coming and going would only fill the log.
            return Ok(());
        }
        let place = match self.place() {
            Ok(place) => place,
            Err(refusal) => {
                drop(reply.send(Err(refusal)));
                return Ok(());
            }
        };
        let last_seq = self.transcript.last_seq;
        let connection = self.transcript.connections.next();
        let events = {
            let entries = self.arrival(connection);
            self.append(entries).await?
        };
        let mut frames: Vec<_> = events
            .into_iter()
            .map(|event| SharedFrame::new(first_frame(event)))
            .collect();
        for outlet in &self.readers {
            // `client_connected` is news for those who were here before.
            for frame in &frames {
                outlet.send(frame);
            }
        }
        let welcome = match last_seq {
            Seq::ZERO => Welcome {
                connection,
                greeting: frames,
                catch_up: None,
            },
            _ => self.welcome_back(connection, after, last_seq, &mut frames),
        };
        self.grace_until = None;
        self.idle_until = Instant::now() + self.context.limits.session.idle_timeout;
        let Place {
            commands,
            departure,
        } = place;
        let limits = &self.context.limits.session;
        let (outlet, reader) = reader::open(
            welcome,
            commands,
            departure,
            limits,
            &self.context.in_flight,
        );
        self.readers.push(outlet);
        // If nobody waits for it, the reader is dropped here, which detaches it again.
        drop(reply.send(Ok(reader)));
        // What the session's last holder left to be done, now that there is somebody to see it.
        self.start_waiting();
        Ok(())
    }

    /// A place for one more reader, taken before its coming goes on record: from then on its
    /// departure must be heard as well.
    fn place(&self) -> Result<Place, AttachError> {
        if self.draining {
            return Err(AttachError::ShuttingDown);
        }
        if self.ending.is_some() {
            // It can be reopened when it has ended.
            return Err(AttachError::Gone);
        }
        if self.readers.len() >= usize::from(self.context.limits.session.readers_max) {
            return Err(AttachError::Busy);
        }
        let commands = self.commands.upgrade().ok_or(AttachError::Gone)?;
        // The inbox has room for as many departures, but a flood of requests may have filled it.
        let departure = commands.clone().try_reserve_owned();
        let departure = departure.map_err(|_full| AttachError::Busy)?;
        Ok(Place {
            commands,
            departure,
        })
    }

    /// What the log says of a reader's coming; for the first one, that the session began.
    fn arrival(&mut self, connection: ConnectionId) -> Vec<Entry> {
        let reopened = std::mem::take(&mut self.reopened);
        let connected = EventBody::ClientConnected(ClientConnected {
            connection,
            reopened,
        });
        let mut entries = self.beginning();
        entries.push((None, connected));
        entries
    }

    /// What every log begins with. Nothing, if it has begun.
    pub(super) fn beginning(&self) -> Vec<Entry> {
        if self.transcript.last_seq != Seq::ZERO {
            return Vec::new();
        }
        let lease = self.log.lease();
        let started = SessionStarted {
            session_id: lease.session_id.clone(),
            user_id: lease.user_id.clone(),
            agent: self.agent_name.clone(),
        };
        vec![(None, EventBody::SessionStarted(started))]
    }

    /// What a reader of an existing session is told first. Frames queued for it from now on follow
    /// directly after: the log up to now is replayed, or else only its own arrival is told.
    fn welcome_back(
        &self,
        connection: ConnectionId,
        after: Option<Seq>,
        last_seq: Seq,
        arrival: &mut Vec<Arc<SharedFrame>>,
    ) -> Welcome {
        let lease = self.log.lease();
        let mut greeting = vec![SharedFrame::new(ServerFrame::Opened(SessionOpened {
            seq: None,
            occurred_at: None,
            session_id: lease.session_id.clone(),
            user_id: lease.user_id.clone(),
            agent: self.agent_name.clone(),
            resumed: true,
            last_seq,
            message_bytes_max: None,
        }))];
        let draft = self.turn.as_ref().and_then(RunningTurn::draft_frame);
        let draft = draft.map(SharedFrame::new);
        if let Some(after) = after.filter(|after| *after <= last_seq) {
            let catch_up = CatchUp {
                store: Arc::clone(self.log.store()),
                lease: lease.clone(),
                after,
                until: self.transcript.last_seq,
                then: draft,
            };
            return Welcome {
                connection,
                greeting,
                catch_up: Some(catch_up),
            };
        }
        if let Some(after) = after {
            let message =
                format!("`after` is {after}, but the log ends at {last_seq}; forget what you have");
            let code = ErrorCode::UnknownPosition;
            let error = ErrorFrame::new(code, message);
            greeting.push(SharedFrame::new(ServerFrame::Error(error)));
        }
        greeting.append(arrival);
        greeting.extend(draft);
        Welcome {
            connection,
            greeting,
            catch_up: None,
        }
    }

    /// A reader is gone. One that closed cleanly is done with the session; otherwise the last one's
    /// loss starts the grace.
    pub(super) async fn detach(
        &mut self,
        connection: ConnectionId,
        reason: DisconnectReason,
    ) -> Step {
        self.readers
            .retain(|outlet| outlet.connection != connection);
        let gone = EventBody::ClientDisconnected(ClientDisconnected { connection, reason });
        if reason == DisconnectReason::Closed && self.turn.is_none() {
            return self.end_with(vec![(None, gone)], EndReason::Closed).await;
        }
        let events = self.append(vec![(None, gone)]).await?;
        for event in events {
            self.broadcast(ServerFrame::Event(event));
        }
        if reason == DisconnectReason::Closed {
            return self.request_end(EndReason::Closed).await;
        }
        if self.readers.is_empty() {
            self.grace_until = Some(Instant::now() + self.context.limits.session.resume_grace);
        }
        Ok(())
    }
}
