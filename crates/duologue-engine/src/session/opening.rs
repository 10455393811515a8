//! How a session's task begins and ends: claim, catch up with the log, run, let go.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use duologue_protocol::{ClientFrame, CloseCode, ErrorCode, SessionId, UserId};
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument;

use crate::{
    SessionIdHash,
    budgets::UserBudget,
    engine::Context,
    log::{Log, Retry, fold},
    session::{AttachError, Command, Session, SessionExit, inputs::Side, lease_guard::LeaseGuard},
    store::{Claim, Claimed, Lease, Store, StoreError},
    transcript::Transcript,
};

/// How the session comes to this server.
pub(crate) enum Opening {
    /// A reader asks for it.
    Requested(SessionId, UserId),
    /// Its holder was lost, and this server has claimed it in order to end it.
    Lapsed(Box<Claimed>),
}

impl Opening {
    /// Which session it is, and whose.
    pub(crate) fn key(&self) -> (SessionId, UserId) {
        match self {
            Self::Requested(session_id, user_id) => (session_id.clone(), user_id.clone()),
            Self::Lapsed(claimed) => {
                let lease = &claimed.lease;
                (lease.session_id.clone(), lease.user_id.clone())
            }
        }
    }
}

/// Starts a session's task. Its commands go to the returned sender. What `enter` returns is dropped
/// when the task is over, be it by a panic.
pub(crate) fn spawn<E: Send>(
    context: Arc<Context>,
    opening: Opening,
    enter: impl FnOnce() -> E + Send + 'static,
) -> mpsc::Sender<Command> {
    let limits = &context.limits.session;
    // Each reader keeps a place for its departure; the rest is for requests.
    let places = usize::from(limits.commands_queued_max) + usize::from(limits.readers_max);
    let (commands, inbox) = mpsc::channel(places);
    let weak = commands.downgrade();
    let span = tracing::info_span!("session", session.id = %SessionIdHash::from(&opening.key().0));
    let tasks = context.tasks.clone();
    let task = async move {
        let entry = enter();
        live(context, opening, weak, inbox).await;
        drop(entry);
    };
    tasks.spawn(task.instrument(span));
    commands
}

async fn live(
    context: Arc<Context>,
    opening: Opening,
    commands: mpsc::WeakSender<Command>,
    mut inbox: mpsc::Receiver<Command>,
) {
    match open(&context, opening).await {
        Err(refusal) => {
            if let AttachError::Store(error) = &refusal {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "session.not_opened"
                );
            }
            turn_away(&mut inbox, &refusal);
        }
        Ok(opened) => {
            tracing::info!(last_seq = opened.transcript.last_seq.0, "session.opened");
            Session::new(context, opened, commands, inbox).live().await;
        }
    }
}

/// A session claimed, and its log read.
pub(super) struct Opened {
    claimed: Claimed,
    lease_guard: LeaseGuard,
    transcript: Transcript,
    user_budget: Arc<UserBudget>,
    /// How long it waits for a reader.
    grace: Duration,
}

/// Claims what was asked for and reads its log.
pub(super) async fn open(context: &Arc<Context>, opening: Opening) -> Result<Opened, AttachError> {
    if context.drain.is_cancelled() {
        return Err(AttachError::ShuttingDown);
    }
    let (claimed, grace) = match opening {
        Opening::Requested(session_id, user_id) => {
            let claim = Claim {
                session_id,
                user_id,
                agent: context.agent.name().to_owned(),
                server: context.server.clone(),
                lease: context.limits.session.lease,
                now: context.clock.now(),
            };
            let claimed = context.store.claim(&claim).await?;
            let claimed = claimed.ok_or(AttachError::NotFound)?;
            (claimed, context.limits.session.resume_grace)
        }
        // Its grace is over already.
        Opening::Lapsed(claimed) => (*claimed, Duration::ZERO),
    };
    let lease_guard = LeaseGuard::new(Arc::clone(context), claimed.lease.clone());
    let empty = Transcript::new(context.limits.turn.prompt_bytes_max);
    let transcript = match claimed.session.last_seq.0 {
        0 => empty,
        _ => fold(&*context.store, &claimed.lease, empty).await?,
    };
    let user_id = &claimed.lease.user_id;
    let opening = context
        .budgets
        .open(&*context.store, user_id, context.clock.now());
    let user_budget = opening.await?;
    Ok(Opened {
        claimed,
        lease_guard,
        transcript,
        user_budget,
        grace,
    })
}

/// Answers whoever waits at a session that is not there (any more). A reader that leaves is not
/// waited for.
fn turn_away(inbox: &mut mpsc::Receiver<Command>, refusal: &AttachError) {
    inbox.close();
    while let Ok(command) = inbox.try_recv() {
        if let Command::Attach(attach) = command {
            // Whoever does not listen any more needs no answer.
            drop(attach.reply.send(Err(repeated(refusal))));
        }
    }
}

/// The same refusal for one more. Its cause was logged, and cannot be shared.
fn repeated(refusal: &AttachError) -> AttachError {
    match refusal {
        AttachError::NotFound => AttachError::NotFound,
        AttachError::Busy => AttachError::Busy,
        AttachError::TooManySessions => AttachError::TooManySessions,
        AttachError::ShuttingDown => AttachError::ShuttingDown,
        AttachError::Gone => AttachError::Gone,
        AttachError::Store(error) => {
            let cause = error.to_string().into();
            AttachError::Store(match error {
                StoreError::Conflict => StoreError::Conflict,
                StoreError::Unavailable(_) => StoreError::Unavailable(cause),
                StoreError::Corrupt(_) => StoreError::Corrupt(cause),
            })
        }
    }
}

impl Session {
    pub(super) fn new(
        context: Arc<Context>,
        opened: Opened,
        commands: mpsc::WeakSender<Command>,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        let Opened {
            claimed,
            lease_guard,
            transcript,
            user_budget,
            grace,
        } = opened;
        let limits = &context.limits.session;
        let log = Log::new(
            Arc::clone(&context.store),
            Arc::clone(&context.clock),
            claimed.lease,
            Retry {
                timeout: limits.storage_retry_timeout,
                stop: context.stop.clone(),
            },
        );
        let now = Instant::now();
        Self {
            lease_guard,
            log,
            transcript,
            user_budget,
            agent_name: claimed.session.agent,
            reopened: claimed.reopened,
            left_draft: claimed.draft,
            inbox,
            set_aside: VecDeque::new(),
            commands,
            readers: Vec::new(),
            turn: None,
            last_heard: Side::default(),
            is_degraded: false,
            ending: None,
            draining: false,
            leave_at: None,
            grace_until: Some(now + grace),
            idle_until: now + limits.idle_timeout,
            context,
        }
    }

    /// The whole life of the task, and its orderly end.
    async fn live(mut self) {
        let exit = match self.settle_interrupted_turn().await {
            Ok(()) => self.run().await,
            Err(exit) => exit,
        };
        match exit {
            SessionExit::Ended => {
                self.refuse_unheard();
                self.close_readers(CloseCode::Ended);
            }
            SessionExit::Released => {
                self.say_goodbye();
                release(&*self.context.store, self.log.lease()).await;
            }
            SessionExit::Failed(StoreError::Conflict) => {
                // Nothing is wrong: its user has moved to another server.
                tracing::info!("session.taken_over");
                self.close_readers(CloseCode::TakenOver);
            }
            SessionExit::Failed(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "session.given_up");
                let code = if let StoreError::Unavailable(_) = error {
                    self.report_unstored();
                    CloseCode::TryAgainLater
                } else {
                    CloseCode::Internal
                };
                self.close_readers(code);
            }
        }
        tracing::info!(last_seq = self.transcript.last_seq.0, "session.closed");
        turn_away(&mut self.inbox, &AttachError::Gone);
    }

    /// Refuses the messages that came after the end, so that nobody waits for their receipts.
    fn refuse_unheard(&mut self) {
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            match command {
                Command::Submit {
                    connection,
                    frame: ClientFrame::Message(input),
                    ..
                } => {
                    let message = "the session has ended; connect again to go on with it";
                    self.refuse(connection, ErrorCode::Busy, message, input.id);
                }
                Command::Attach(attach) => drop(attach.reply.send(Err(AttachError::Gone))),
                Command::Submit { .. } | Command::Detach { .. } => {}
            }
        }
    }
}

async fn release(store: &dyn Store, lease: &Lease) {
    if let Err(error) = store.release(lease).await {
        // The lease lapses by itself; letting go only saves the others that time.
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "session.release_failed"
        );
    }
}
