//! A session: one conversation, one task, one log.
//!
//! [`Session::run`] is the only code that changes a session. It takes commands from readers and
//! output from the running turn, one at a time, and makes events of them.
//!
//! ```text
//! readers ──Command──▶ Session ──spawns──▶ Turn
//!    ▲                 │     ▲              │
//!    └──Event, Delta───┘     └───Output─────┘
//! ```
//!
//! Invariants:
//!
//! * Only this task appends to the log, so events need no lock and have one order.
//! * An event reaches readers after the store has it; a delta is never stored.
//! * At most one turn runs. What arrives meanwhile waits in a bounded queue, which is in the log.
//! * As long as the session has a reader, a message only waits while a turn runs.
//! * A session is only let go of between turns, so every user's message gets its end; what waits is
//!   left to the next holder.
//!
//! Not here: what a turn does (`turn`), sockets (`duologue-server`), SQL (`duologue-store`).

mod attach;
mod drafts;
mod drain_schedule;
mod ending;
mod hearing;
mod inputs;
mod interrupted;
mod lease_guard;
mod opening;
mod recording;
#[cfg(feature = "testing")]
pub mod replay;
mod running;
mod storing;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use duologue_protocol::{
    ClientFrame, CloseCode, ConnectionId, DisconnectReason, EndReason, ErrorCode, ErrorFrame,
    FinishReason, MessageId, Seq, ServerFrame,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    budgets::{Refusal, UserBudget},
    engine::Context,
    in_flight::InFlightGuard,
    log::Log,
    reader::{Outlet, Reader, SharedFrame},
    session::{
        inputs::{Input, Side},
        lease_guard::LeaseGuard,
        running::RunningTurn,
    },
    store::{Draft, StoreError},
    transcript::Transcript,
};

pub(crate) use drain_schedule::DrainSchedule;
pub(crate) use lease_guard::LeaseRegistry;
pub(crate) use opening::{Opening, spawn};
pub(crate) use running::milliseconds;

/// What a client is told to wait whose session is busy. Nobody knows when the turn will be over.
pub(crate) const BUSY_RETRY_DELAY: Duration = Duration::from_secs(2);

/// What readers ask of a session.
#[derive(Debug)]
pub(crate) enum Command {
    /// Let a new reader in.
    Attach(Attach),
    /// A client's request.
    Submit {
        connection: ConnectionId,
        frame: ClientFrame,
        /// Lands when the session has looked at it.
        load: InFlightGuard,
    },
    /// A reader is gone.
    Detach {
        connection: ConnectionId,
        reason: DisconnectReason,
    },
}

/// A wish to read a session, and to speak in it.
#[derive(Debug)]
pub(crate) struct Attach {
    pub(crate) after: Option<Seq>,
    pub(crate) reply: oneshot::Sender<Result<Reader, AttachError>>,
}

/// Why a reader was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The session belongs to another user. To be answered as if it did not exist.
    #[error("the session belongs to another user")]
    NotFound,
    /// The session has as many readers as it may have. Try again later.
    #[error("the session has as many readers as it may have")]
    Busy,
    /// The user has as many sessions here as a user may have. Try again when one is over.
    #[error("the user has as many sessions as one may have")]
    TooManySessions,
    /// The store did not answer. Try again later.
    #[error("the session's log could not be opened")]
    Store(#[from] StoreError),
    /// The server is stopping.
    #[error("the server is stopping")]
    ShuttingDown,
    /// The session's task is ending and cannot answer any more. The engine itself asks for the
    /// session anew.
    #[error("the session is being let go of")]
    Gone,
}

/// Why the task of a session comes to its end.
#[derive(Debug)]
enum SessionExit {
    /// The session has ended.
    Ended,
    /// The session goes on elsewhere or later.
    Released,
    /// The log could not be written.
    Failed(StoreError),
}

impl From<StoreError> for SessionExit {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Goes on, or why not.
type Step = Result<(), SessionExit>;

/// The task that owns a session.
pub(crate) struct Session {
    context: Arc<Context>,
    lease_guard: LeaseGuard,
    log: Log,
    transcript: Transcript,
    /// What its user uses.
    user_budget: Arc<UserBudget>,
    agent_name: String,
    /// Whether the session had ended, and the next reader is the one that reopens it.
    reopened: bool,
    /// The text of the answer that was forming when the last holder was lost.
    left_draft: Option<Draft>,
    inbox: mpsc::Receiver<Command>,
    /// What came while a write was in trouble, and comes before the inbox.
    set_aside: VecDeque<Command>,
    /// For the readers to come.
    commands: mpsc::WeakSender<Command>,
    readers: Vec<Outlet>,
    turn: Option<RunningTurn>,
    last_heard: Side,
    /// Whether readers were told that the store does not answer.
    is_degraded: bool,
    /// Set when the session is to end as soon as its turn is over.
    ending: Option<EndReason>,
    /// Set once the server has asked for sessions to be let go of.
    draining: bool,
    /// When it is let go of, once it was asked to between turns.
    leave_at: Option<Instant>,
    /// When the session ends unless a reader comes. Only while it has none.
    grace_until: Option<Instant>,
    /// When the session ends unless its user says something.
    idle_until: Instant,
}

impl Session {
    /// Runs until the session ends or moves away. Everything that can happen to it is an arm below.
    async fn run(&mut self) -> SessionExit {
        let drain = self.context.drain.clone();
        let stopped = self.context.stop.clone();
        let lost = self.lease_guard.lost();
        loop {
            let is_between_turns = self.turn.is_none();
            // What happens while the server is stopping is no reason to end.
            let may_end = is_between_turns && !self.draining;
            let step = tokio::select! {
                biased;
                () = lost.cancelled() => Err(SessionExit::Failed(StoreError::Conflict)),
                () = stopped.cancelled(), if !self.is_interrupted() => self.interrupt(),
                () = drain.cancelled(), if !self.draining => self.start_draining(),
                input = inputs::next(
                    &mut self.set_aside, &mut self.inbox, &mut self.turn, &mut self.last_heard
                ) => {
                    match input {
                        Input::Command(command) => self.obey(command).await,
                        Input::Turn(news) => self.follow(news).await,
                    }
                }
                () = until(self.leave_at), if is_between_turns => Err(SessionExit::Released),
                () = until(self.grace_until), if may_end => {
                    self.end_unless_cut_off().await
                }
                () = tokio::time::sleep_until(self.idle_until), if may_end => {
                    self.end(EndReason::Idle).await
                }
            };
            if let Err(exit) = step {
                return exit;
            }
        }
    }

    async fn obey(&mut self, command: Option<Command>) -> Step {
        match command {
            Some(Command::Attach(attach)) => self.attach(attach).await,
            Some(Command::Detach { connection, reason }) => self.detach(connection, reason).await,
            Some(Command::Submit {
                connection, frame, ..
            }) => self.answer(connection, frame).await,
            // The registry and every reader have let go, which only happens while stopping.
            None => Err(SessionExit::Released),
        }
    }

    async fn answer(&mut self, connection: ConnectionId, frame: ClientFrame) -> Step {
        match frame {
            ClientFrame::Message(input) => return self.hear(connection, input).await,
            ClientFrame::End => return self.request_end(EndReason::Requested).await,
            other => self.answer_at_once(connection, &other),
        }
        Ok(())
    }

    /// Answers what needs no store.
    fn answer_at_once(&mut self, connection: ConnectionId, frame: &ClientFrame) {
        match frame {
            ClientFrame::Message(_) | ClientFrame::End => {
                unreachable!("what needs the store is answered by `answer`");
            }
            ClientFrame::Cancel => self.cancel_turn(),
            ClientFrame::Ping => self.tell(connection, ServerFrame::Pong),
            ClientFrame::Auth { .. } => {
                let message = "authentication is off here, so there is no token to refresh";
                self.refuse(connection, ErrorCode::Unsupported, message, None);
            }
        }
    }

    fn cancel_turn(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.stop(FinishReason::Cancelled);
        }
    }

    /// Answers one reader's request with an error; the connection stays.
    fn refuse(
        &self,
        connection: ConnectionId,
        code: ErrorCode,
        message: &str,
        id: Option<MessageId>,
    ) {
        let retry_after = (code == ErrorCode::Busy).then_some(BUSY_RETRY_DELAY);
        self.refuse_until(connection, (code, message, retry_after), id);
    }

    /// Answers one reader's message that may not have its turn now.
    fn refuse_turn(&self, connection: ConnectionId, refusal: &Refusal, id: Option<MessageId>) {
        let why = (refusal.code, refusal.message, refusal.retry_after);
        self.refuse_until(connection, why, id);
    }

    fn refuse_until(
        &self,
        connection: ConnectionId,
        (code, message, retry_after): (ErrorCode, &str, Option<Duration>),
        id: Option<MessageId>,
    ) {
        let error = ErrorFrame::new(code, message)
            .with_id(id)
            .with_retry_after_ms(retry_after.map(milliseconds));
        self.tell(connection, ServerFrame::Error(error));
    }

    /// Tells one reader. One that cannot keep up is cut off, and reports its departure.
    fn tell(&self, connection: ConnectionId, frame: ServerFrame) {
        let frame = SharedFrame::new(frame);
        if let Some(outlet) = self
            .readers
            .iter()
            .find(|outlet| outlet.connection == connection)
        {
            outlet.send(&frame);
        }
    }

    /// Tells all readers. Those that cannot keep up are cut off, and report their departure.
    fn broadcast(&self, frame: ServerFrame) {
        if self.readers.is_empty() {
            return;
        }
        let frame = SharedFrame::new(frame);
        for outlet in &self.readers {
            outlet.send(&frame);
        }
    }

    fn close_readers(&mut self, code: CloseCode) {
        for outlet in self.readers.drain(..) {
            outlet.close(code);
        }
    }
}

/// Waits until a moment that may not be set.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
