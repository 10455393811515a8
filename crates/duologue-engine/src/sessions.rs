//! The sessions that live on this server: one task each, found by id.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use duologue_protocol::{Seq, SessionId, UserId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    engine::Context,
    reader::Reader,
    session::{self, Attach, AttachError, Command, Opening},
    store::Claimed,
};

/// How often a reader asks anew when it meets a session that is just being let go of.
const ATTEMPTS_MAX: u32 = 5;

type Registry = HashMap<SessionId, (u64, mpsc::Sender<Command>)>;

/// A cheap handle to all live sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    context: Arc<Context>,
    /// Each with the number of its task, so that a task removes only itself. Held for a look-up or
    /// an insertion, never across an `.await`.
    live: Arc<Mutex<(u64, Registry)>>,
}

impl Sessions {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            live: Arc::default(),
        }
    }

    /// Attaches a reader, opening the session if it does not live here.
    pub(crate) async fn attach(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
        after: Option<Seq>,
    ) -> Result<Reader, AttachError> {
        for _ in 0..ATTEMPTS_MAX {
            if self.context.drain.is_cancelled() {
                return Err(AttachError::ShuttingDown);
            }
            let commands = self.find_or_open(session_id, user_id);
            let (reply, answer) = oneshot::channel();
            let attach = Attach {
                user_id: user_id.clone(),
                after,
                reply,
            };
            match commands.try_send(Command::Attach(attach)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => return Err(AttachError::Busy),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    // It is on its way out; let it finish before asking anew.
                    commands.closed().await;
                    tokio::task::yield_now().await;
                    continue;
                }
            }
            match answer.await {
                Ok(Err(AttachError::Gone)) | Err(_) => tokio::task::yield_now().await,
                Ok(answer) => return answer,
            }
        }
        Err(AttachError::Busy)
    }

    fn find_or_open(&self, session_id: &SessionId, user_id: &UserId) -> mpsc::Sender<Command> {
        let opening = || Opening::Requested(session_id.clone(), user_id.clone());
        let mut live = self.lock();
        match live.1.get(session_id) {
            Some((_, commands)) if !commands.is_closed() => commands.clone(),
            _ => self.open(&mut live, opening()),
        }
    }

    /// Opens a session that was claimed because its holder was lost. It has no reader, so its grace
    /// has begun; one that lives here needs no saving.
    pub(crate) fn adopt(&self, claimed: Claimed) {
        let mut live = self.lock();
        let lives = live
            .1
            .get(&claimed.hold.session_id)
            .is_some_and(|(_, c)| !c.is_closed());
        if !lives {
            self.open(&mut live, Opening::Lapsed(Box::new(claimed)));
        }
    }

    fn open(&self, live: &mut (u64, Registry), opening: Opening) -> mpsc::Sender<Command> {
        let (last_number, registry) = live;
        *last_number += 1;
        let number = *last_number;
        let session_id = opening.session_id().clone();
        let on_exit = {
            let (sessions, session_id) = (self.clone(), session_id.clone());
            move || sessions.forget(&session_id, number)
        };
        let commands = session::spawn(Arc::clone(&self.context), opening, on_exit);
        registry.insert(session_id, (number, commands.clone()));
        commands
    }

    fn forget(&self, session_id: &SessionId, number: u64) {
        let registry = &mut self.lock().1;
        if registry
            .get(session_id)
            .is_some_and(|(current, _)| *current == number)
        {
            registry.remove(session_id);
        }
    }

    /// How many sessions live here.
    pub(crate) fn count(&self) -> usize {
        self.lock().1.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Registry)> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
