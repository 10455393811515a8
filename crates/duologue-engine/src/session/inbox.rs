//! The commands that reach a session, in one bounded queue.

use std::collections::VecDeque;

use duologue_protocol::{ClientFrame, ConnectionId, DisconnectReason};
use tokio::sync::oneshot;

use crate::{
    in_flight::InFlightGuard,
    limits::SessionLimits,
    reader::{Reader, RequestSink, SubmitError},
    session::{
        command_queue::{self, Permit, Receiver, SendError, Sender},
        position::Position,
    },
    store::StoreError,
};

/// What is asked of a session.
#[derive(Debug)]
pub(crate) enum Command {
    /// Attaches a new reader.
    Attach(Attach),
    /// A client's request.
    Submit(ClientRequest),
    /// A reader is gone.
    Detach {
        connection: ConnectionId,
        reason: DisconnectReason,
    },
}

/// A request to attach a reader.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) position: Option<Position>,
    pub(crate) reply: oneshot::Sender<Result<Reader, AttachError>>,
}

/// A client's request.
#[derive(Debug)]
pub(crate) struct ClientRequest {
    pub(crate) connection: ConnectionId,
    pub(crate) frame: ClientFrame,
    /// The span of the connection, for the logs of what the request causes.
    pub(crate) origin: tracing::Span,
    /// Released when the session has handled the request.
    _in_flight: InFlightGuard,
}

impl ClientRequest {
    /// A request of the connection in whose span this is called.
    pub(crate) fn new(
        connection: ConnectionId,
        frame: ClientFrame,
        in_flight: InFlightGuard,
    ) -> Self {
        Self {
            connection,
            frame,
            origin: tracing::Span::current(),
            _in_flight: in_flight,
        }
    }
}

/// Why a reader was not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The session belongs to another user. To be answered as if it did not exist.
    #[error("the session belongs to another user")]
    NotFound,
    /// The session has its maximum number of readers. Try again later.
    #[error("the session has its maximum number of readers")]
    Busy,
    /// The user has the maximum number of sessions on this server. Try again when one has ended.
    #[error("the user has the maximum number of sessions")]
    TooManySessions,
    /// Storage is unavailable. Try again later.
    #[error("the session's log could not be opened")]
    Store(#[from] StoreError),
    /// The server is stopping.
    #[error("the server is stopping")]
    ShuttingDown,
    /// The session's task is ending. The engine itself opens the session again.
    #[error("the session is being released")]
    Gone,
}

impl AttachError {
    /// The same error for another requester. Its cause was logged, and cannot be shared.
    fn repeated(&self) -> Self {
        match self {
            Self::NotFound => Self::NotFound,
            Self::Busy => Self::Busy,
            Self::TooManySessions => Self::TooManySessions,
            Self::ShuttingDown => Self::ShuttingDown,
            Self::Gone => Self::Gone,
            Self::Store(error) => {
                let cause = error.to_string().into();
                Self::Store(match error {
                    StoreError::Conflict => StoreError::Conflict,
                    StoreError::Unavailable(_) => StoreError::Unavailable(cause),
                    StoreError::Corrupt(_) => StoreError::Corrupt(cause),
                })
            }
        }
    }
}

/// The way to a session's task.
#[derive(Clone, Debug)]
pub(crate) struct SessionHandle(Sender<BoxedCommand>);

/// Boxed, so that the buffer of the queue is small.
type BoxedCommand = Box<Command>;

/// The receiving end, owned by the session's task.
pub(super) struct Inbox {
    commands: Receiver<BoxedCommand>,
    /// Commands that were received while the session was being opened, or during an outage, and are
    /// handled after it.
    deferred: VecDeque<Command>,
}

/// A reader's place in the inbox, with room for its departure.
pub(super) struct ReaderSlot {
    commands: Sender<BoxedCommand>,
    departure: Permit<BoxedCommand>,
}

/// Sends one reader's requests, and in the end its departure.
#[derive(Debug)]
struct ReaderRequests {
    connection: ConnectionId,
    commands: Sender<BoxedCommand>,
    departure: Option<Permit<BoxedCommand>>,
}

/// Makes the inbox of a session.
pub(super) fn channel(limits: &SessionLimits) -> (SessionHandle, Inbox) {
    // Each reader has a place for its departure; the rest is for requests.
    with_capacity(usize::from(limits.commands_queued_max) + usize::from(limits.readers_max))
}

/// Makes an inbox with this many places.
pub(super) fn with_capacity(places: usize) -> (SessionHandle, Inbox) {
    let (sender, commands) = command_queue::channel(places);
    let inbox = Inbox {
        commands,
        deferred: VecDeque::new(),
    };
    (SessionHandle(sender), inbox)
}

impl SessionHandle {
    /// Asks the session to attach a reader. On [`AttachError::Gone`] its task is over.
    pub(crate) async fn attach(&self, position: Option<Position>) -> Result<Reader, AttachError> {
        let (reply, answer) = oneshot::channel();
        let sent = self
            .0
            .try_send(Box::new(Command::Attach(Attach { position, reply })));
        match sent {
            Ok(()) => {}
            Err(SendError::Full) => return Err(AttachError::Busy),
            Err(SendError::Closed) => return Err(AttachError::Gone),
        }
        match answer.await {
            Ok(Err(AttachError::Gone)) | Err(_) => {
                self.0.closed().await;
                Err(AttachError::Gone)
            }
            Ok(attached) => attached,
        }
    }

    /// Sends a command.
    ///
    /// # Panics
    ///
    /// If the inbox is full, or the session accepts no more commands.
    #[cfg(feature = "testing")]
    pub(super) fn send(&self, command: Command) {
        let sent = self.0.try_send(Box::new(command));
        sent.expect("the session accepts commands");
    }

    /// Whether the session accepts no more commands.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Inbox {
    /// Waits for the next command, deferred ones first. Safe to cancel.
    pub(super) async fn next(&mut self) -> Command {
        match self.deferred.pop_front() {
            Some(command) => command,
            None => self.receive().await,
        }
    }

    /// Whether commands were deferred.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Waits for the next new command, leaving the deferred ones. Safe to cancel.
    pub(super) async fn receive(&mut self) -> Command {
        *self.commands.receive().await
    }

    /// Handles a command after the outage. Bounded: one request to end, and one departure of each
    /// reader.
    pub(super) fn defer(&mut self, command: Command) {
        let is_end = |command: &Command| matches!(command, Command::Submit(request) if request.frame == ClientFrame::End);
        if !(is_end(&command) && self.deferred.iter().any(is_end)) {
            self.deferred.push_back(command);
        }
    }

    /// For a session that is not open yet: waits until everyone who requested it has given up. Safe to
    /// cancel.
    pub(super) async fn abandoned(&mut self) {
        // The first request is sent right after the task was started.
        while self.deferred.is_empty() {
            let command = self.receive().await;
            self.deferred.push_back(command);
        }
        while self.is_wanted() {
            if let Some(Command::Attach(attach)) = self.deferred.front_mut() {
                attach.reply.closed().await;
            }
        }
    }

    /// For a session that has no reader yet: whether someone still waits for it.
    pub(super) fn is_wanted(&mut self) -> bool {
        while let Some(command) = self.commands.try_receive() {
            self.deferred.push_back(*command);
        }
        // Without a reader there are no other commands.
        self.deferred.retain(
            |command| matches!(command, Command::Attach(attach) if !attach.reply.is_closed()),
        );
        !self.deferred.is_empty()
    }

    /// A place for one more reader, with room for its departure.
    pub(super) fn reader_slot(&self) -> Result<ReaderSlot, AttachError> {
        // There is room for a `Detach` of every reader, but a flood of requests may use it.
        let departure = self.commands.reserve().map_err(|error| match error {
            SendError::Full => AttachError::Busy,
            SendError::Closed => AttachError::Gone,
        })?;
        Ok(ReaderSlot {
            commands: self.commands.sender(),
            departure,
        })
    }

    /// Accepts no more commands, and returns the next one that is left.
    pub(super) fn drain(&mut self) -> Option<Command> {
        self.commands.close();
        let deferred = self.deferred.pop_front();
        deferred.or_else(|| self.commands.try_receive().map(|command| *command))
    }

    /// Accepts no more commands, and refuses to attach readers. A `Detach` has no effect any more.
    pub(super) fn refuse_all(&mut self, error: &AttachError) {
        while let Some(command) = self.drain() {
            if let Command::Attach(attach) = command {
                attach.refuse(error.repeated());
            }
        }
    }
}

impl Attach {
    /// Refuses to attach a reader. A requester that is gone needs no answer.
    pub(super) fn refuse(self, error: AttachError) {
        drop(self.reply.send(Err(error)));
    }
}

impl ReaderSlot {
    /// Binds the place to a connection.
    pub(super) fn requests(self, connection: ConnectionId) -> Box<dyn RequestSink> {
        Box::new(ReaderRequests {
            connection,
            commands: self.commands,
            departure: Some(self.departure),
        })
    }
}

impl RequestSink for ReaderRequests {
    fn submit(&self, frame: ClientFrame, in_flight: InFlightGuard) -> Result<(), SubmitError> {
        let request = ClientRequest::new(self.connection, frame, in_flight);
        let sent = self.commands.try_send(Box::new(Command::Submit(request)));
        sent.map_err(|error| match error {
            SendError::Full => SubmitError::Full,
            SendError::Closed => SubmitError::Closed,
        })
    }

    fn depart(&mut self, reason: DisconnectReason) {
        if let Some(departure) = self.departure.take() {
            departure.send(Box::new(Command::Detach {
                connection: self.connection,
                reason,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(frame: ClientFrame) -> Command {
        let request = ClientRequest::new(ConnectionId(1), frame, InFlightGuard::nothing());
        Command::Submit(request)
    }

    #[tokio::test]
    async fn a_departure_has_room_when_requests_fill_the_inbox() {
        let (_handle, mut inbox) = with_capacity(2);
        let mut requests = inbox
            .reader_slot()
            .expect("there is room")
            .requests(ConnectionId(1));
        let ping = || requests.submit(ClientFrame::Ping, InFlightGuard::nothing());
        assert_eq!(ping(), Ok(()));
        assert_eq!(ping(), Err(SubmitError::Full));
        requests.depart(DisconnectReason::Lost);
        let first = inbox.next().await;
        assert!(matches!(first, Command::Submit(_)), "{first:?}");
        let second = inbox.next().await;
        assert!(
            matches!(
                second,
                Command::Detach {
                    connection: ConnectionId(1),
                    ..
                }
            ),
            "{second:?}"
        );
    }

    #[tokio::test]
    async fn one_deferred_end_stands_for_all() {
        let (_handle, mut inbox) = with_capacity(8);
        inbox.defer(request(ClientFrame::End));
        inbox.defer(request(ClientFrame::End));
        assert!(inbox.has_deferred());
        inbox.next().await;
        assert!(!inbox.has_deferred());
    }
}
