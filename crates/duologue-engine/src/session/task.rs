//! The task of a session: opens it, runs it, and closes it.

use std::sync::Arc;

use tracing::Instrument;

use crate::{
    context::Context,
    session::{
        actor::Session,
        inbox::{self, AttachError, Inbox, SessionHandle},
        recovery::{OpenedSession, Opening, open},
    },
    session_id_hash::SessionIdHash,
};

/// Starts a session's task. The result of `enter` is dropped when the task is over, also after a
/// panic.
pub(crate) fn spawn<E: Send>(
    context: Arc<Context>,
    opening: Opening,
    enter: impl FnOnce() -> E + Send + 'static,
) -> SessionHandle {
    let (handle, inbox) = inbox::channel(&context.limits.session);
    let span = tracing::info_span!("session", session.id = %SessionIdHash::from(&opening.key().0));
    let tasks = context.tasks.clone();
    let task = async move {
        let registration = enter();
        run(context, opening, inbox).await;
        drop(registration);
    };
    tasks.spawn(task.instrument(span));
    handle
}

/// An idle session only waits, for hours. So what happens before is boxed, and the session itself too: a future
/// that owned it would have room for it twice.
async fn run(context: Arc<Context>, opening: Opening, inbox: Inbox) {
    if let Some(session) = Box::pin(start(context, opening, inbox)).await {
        session.live().await;
    }
}

/// Opens the session. `None`: it could not be opened, and those who requested it know.
async fn start(context: Arc<Context>, opening: Opening, mut inbox: Inbox) -> Option<Box<Session>> {
    match open_in_turn(&context, opening, &mut inbox).await {
        Err(error) => {
            if let AttachError::Store(error) = &error {
                tracing::warn!(
                    error = error as &dyn std::error::Error,
                    "session.not_opened"
                );
            }
            inbox.refuse_all(&error);
            None
        }
        Ok(opened) => {
            tracing::info!(last_seq = opened.transcript.last_seq.0, "session.opened");
            Some(Box::new(Session::new(context, opened, inbox)))
        }
    }
}

/// Opens a session, one of a limited number at a time. If everyone who requested it has given up
/// before it is its turn, the store is not asked for it.
async fn open_in_turn(
    context: &Arc<Context>,
    opening: Opening,
    inbox: &mut Inbox,
) -> Result<OpenedSession, AttachError> {
    let _slot = match opening {
        // It is claimed already.
        Opening::Lapsed(_) => None,
        Opening::Requested(..) => Some(tokio::select! {
            biased;
            () = context.drain.cancelled() => return Err(AttachError::ShuttingDown),
            () = inbox.abandoned() => return Err(AttachError::Gone),
            slot = context.openings.acquire() => slot.expect("the semaphore is never closed"),
        }),
    };
    open(context, opening).await
}
