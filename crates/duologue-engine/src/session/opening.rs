//! How a session's task begins and ends: claim, catch up with the log, run, let go.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use duologue_protocol::{CloseCode, ServerFrame, SessionId, UserId};
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument;

use crate::{
    engine::Context,
    log::{Log, fold},
    session::{AttachError, Command, Exit, Session},
    store::{Claim, Claimed, StoreError},
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
    pub(crate) fn session_id(&self) -> &SessionId {
        match self {
            Self::Requested(session_id, _) => session_id,
            Self::Lapsed(claimed) => &claimed.hold.session_id,
        }
    }
}

/// Starts a session's task. Its commands go to the returned sender; `on_exit` runs when it is over.
pub(crate) fn spawn(
    context: Arc<Context>,
    opening: Opening,
    on_exit: impl FnOnce() + Send + 'static,
) -> mpsc::Sender<Command> {
    let limits = &context.limits.session;
    // Each reader keeps a place for its departure; the rest is for requests.
    let places = usize::from(limits.commands_queued_max) + usize::from(limits.readers_max);
    let (commands, inbox) = mpsc::channel(places);
    let weak = commands.downgrade();
    let span = tracing::info_span!("session", session.id = %opening.session_id());
    let tasks = context.tasks.clone();
    let task = async move {
        live(context, opening, weak, inbox).await;
        on_exit();
    };
    tasks.spawn(task.instrument(span));
    commands
}

async fn live(
    context: Arc<Context>,
    opening: Opening,
    commands: mpsc::WeakSender<Command>,
    inbox: mpsc::Receiver<Command>,
) {
    match open(&context, opening).await {
        Err(refusal) => turn_away(inbox, Some(refusal)).await,
        Ok(opened) => {
            tracing::info!(last_seq = opened.transcript.last_seq.0, "session.opened");
            Session::new(context, opened, commands, inbox).live().await;
        }
    }
}

/// A session claimed, and its log read.
struct Opened {
    claimed: Claimed,
    transcript: Transcript,
    /// How long it waits for a reader.
    grace: Duration,
}

/// Claims what was asked for and reads its log. An error bears the user whose wish it answers.
async fn open(context: &Context, opening: Opening) -> Result<Opened, (UserId, AttachError)> {
    let (session_id, user_id) = match opening {
        Opening::Requested(session_id, user_id) => (session_id, user_id),
        Opening::Lapsed(claimed) => {
            let user_id = claimed.hold.user_id.clone();
            let transcript = fold(&*context.store, &claimed.hold).await;
            return match transcript {
                // Its grace is over already.
                Ok(transcript) => Ok(Opened {
                    claimed: *claimed,
                    transcript,
                    grace: Duration::ZERO,
                }),
                Err(error) => Err((user_id, AttachError::Store(error))),
            };
        }
    };
    let claim = Claim {
        session_id,
        user_id: user_id.clone(),
        agent: context.agent.name().to_owned(),
        server: context.server.clone(),
        lease: context.limits.session.lease,
        now: context.clock.now(),
    };
    let opened = async {
        let Some(claimed) = context.store.claim(&claim).await? else {
            return Ok(None);
        };
        let transcript = match claimed.session.last_seq.0 {
            0 => Transcript::default(),
            _ => fold(&*context.store, &claimed.hold).await?,
        };
        Ok::<_, StoreError>(Some((claimed, transcript)))
    };
    match opened.await {
        Ok(Some((claimed, transcript))) => Ok(Opened {
            claimed,
            transcript,
            grace: context.limits.session.resume_grace,
        }),
        Ok(None) => Err((user_id, AttachError::NotFound)),
        Err(error) => Err((user_id, AttachError::Store(error))),
    }
}

/// Answers whoever waits at a session that is not there (any more).
///
/// A refusal concerns one user. Others, and whoever came too late, are told to ask anew.
async fn turn_away(mut inbox: mpsc::Receiver<Command>, refusal: Option<(UserId, AttachError)>) {
    inbox.close();
    let (user, mut error) = refusal.map_or((None, None), |(user, error)| (Some(user), Some(error)));
    while let Some(command) = inbox.recv().await {
        let Command::Attach(attach) = command else {
            continue;
        };
        let concerned = user.as_ref() == Some(&attach.user_id);
        let answer = match &error {
            Some(AttachError::NotFound) if concerned => AttachError::NotFound,
            // The cause goes to the first who waits; the others try for themselves.
            Some(_) if concerned => error.take().unwrap_or(AttachError::Gone),
            _ => AttachError::Gone,
        };
        // Whoever does not listen any more needs no answer.
        drop(attach.reply.send(Err(answer)));
    }
}

impl Session {
    fn new(
        context: Arc<Context>,
        opened: Opened,
        commands: mpsc::WeakSender<Command>,
        inbox: mpsc::Receiver<Command>,
    ) -> Self {
        let Opened {
            claimed,
            transcript,
            grace,
        } = opened;
        let limits = &context.limits.session;
        let log = Log::new(
            Arc::clone(&context.store),
            Arc::clone(&context.clock),
            claimed.hold,
            limits.storage_retry_timeout,
        );
        let now = Instant::now();
        Self {
            log,
            transcript,
            agent_name: claimed.session.agent,
            reopened: claimed.reopened,
            left_draft: claimed.draft,
            inbox,
            commands,
            readers: Vec::new(),
            turn: None,
            waiting: VecDeque::new(),
            ending: None,
            draining: false,
            grace_until: Some(now + grace),
            idle_until: now + limits.idle_timeout,
            context,
        }
    }

    /// The whole life of the task, and its orderly end.
    async fn live(mut self) {
        let exit = match self.close_interrupted_turn().await {
            Ok(()) => self.run().await,
            Err(exit) => exit,
        };
        match exit {
            Exit::Ended => self.close_readers(CloseCode::Ended),
            Exit::Released => {
                self.broadcast(ServerFrame::GoAway {
                    reason: "restart",
                    reconnect_after_ms: 1000,
                });
                self.close_readers(CloseCode::Restart);
                if let Err(error) = self.context.store.release(self.log.hold()).await {
                    // The lease lapses by itself; letting go only saves the others that time.
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "session.release_failed"
                    );
                }
            }
            Exit::Failed(error) => {
                let code = match &error {
                    StoreError::Conflict => CloseCode::TakenOver,
                    StoreError::Unavailable(_) => CloseCode::TryAgainLater,
                    StoreError::Corrupt(_) => CloseCode::Internal,
                };
                tracing::error!(error = &error as &dyn std::error::Error, "session.given_up");
                self.close_readers(code);
            }
        }
        tracing::info!(last_seq = self.transcript.last_seq.0, "session.closed");
        turn_away(self.inbox, None).await;
    }
}
