//! For tests only: a session without a registry, whose state can be compared with its log.

use std::sync::Arc;

use duologue_protocol::{ClientFrame, ConnectionId, Seq, SessionId, UserId};
use tokio::sync::oneshot;

use crate::{
    context::{Context, Limits, Parts},
    log::fold,
    reader::Reader,
    session::{
        actor::Session,
        exit::SessionExit,
        inbox::{self, Attach, ClientRequest, Command, SessionHandle},
        position::Position,
        recovery::{Opening, open},
    },
    transcript::Transcript,
};

/// More commands than a test sends before the session receives one.
const COMMANDS_MAX: usize = 1000;

/// Runs sessions one after the other, as one server does.
pub struct SessionRunner {
    context: Arc<Context>,
}

/// Sends commands to a running session.
#[derive(Debug)]
pub struct Commands(SessionHandle);

/// The state of a session that has ended, and the state that its log gives.
#[derive(Debug)]
pub struct EndedSession {
    /// The state when the session ended.
    pub lived: SessionState,
    /// The state after reading the log from its beginning.
    pub replayed: SessionState,
}

/// All that a session derives from its log. It can be compared, and printed.
#[derive(Debug, PartialEq)]
pub struct SessionState(Transcript);

impl SessionState {
    /// Whether no turn, no tool call and no queued message is open.
    pub fn is_settled(&self) -> bool {
        let SessionState(transcript) = self;
        transcript.open_turn.is_none()
            && transcript.open_calls.is_empty()
            && transcript.queue.len() == 0
    }
}

impl std::fmt::Debug for SessionRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionRunner").finish_non_exhaustive()
    }
}

impl SessionRunner {
    /// Must be called within a runtime.
    pub fn new(parts: Parts, limits: Limits) -> Self {
        Self {
            context: Context::new(parts, limits),
        }
    }

    /// Opens the session and runs it until it has ended, or until `life` is over: then the session
    /// is dropped where it is, as when its process is killed, and there is no state.
    ///
    /// # Panics
    ///
    /// If the session cannot be opened, or its task stops for another reason than its end.
    pub async fn run<F>(
        &self,
        session_id: SessionId,
        life: impl FnOnce(Commands) -> F,
    ) -> Option<EndedSession>
    where
        F: Future<Output = ()>,
    {
        let (commands, inbox) = inbox::with_capacity(COMMANDS_MAX);
        let opening = Opening::Requested(session_id, UserId::anonymous());
        let opened = open(&self.context, opening)
            .await
            .expect("the session opens");
        let context = Arc::clone(&self.context);
        let mut session = Session::new(context, opened, inbox);
        let repaired = session.recover_turn().await;
        assert!(repaired.is_ok(), "{repaired:?}");
        tokio::select! {
            exit = session.run() => assert!(matches!(exit, SessionExit::Ended), "{exit:?}"),
            () = life(Commands(commands)) => return None,
        }
        let empty = Transcript::new(self.context.limits.turn.prompt_bytes_max);
        let (lease, last_seq) = (
            session.journal.lease(),
            session.journal.transcript().last_seq,
        );
        let replayed = fold(&*self.context.store, lease, last_seq, empty).await;
        Some(EndedSession {
            lived: SessionState(session.journal.transcript().clone()),
            replayed: SessionState(replayed.expect("the log is read")),
        })
    }
}

impl Commands {
    /// Attaches a reader; none if the session refuses it.
    pub async fn attach(&self, after: Option<Seq>) -> Option<Reader> {
        let (reply, answer) = oneshot::channel();
        let position = after.map(Position::from);
        let attach = Command::Attach(Attach { position, reply });
        self.0.send(attach);
        answer.await.ok().and_then(Result::ok)
    }

    /// Asks the session to end, as a client does.
    pub fn end(&self, runner: &SessionRunner) {
        let in_flight = runner.context.in_flight.load(0);
        let end = Command::Submit(ClientRequest::new(
            ConnectionId::default(),
            ClientFrame::End,
            in_flight,
        ));
        self.0.send(end);
    }
}
