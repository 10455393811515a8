//! The sessions that live on this server: one task each, found by id and user.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use duologue_protocol::{Seq, SessionId, UserId};
use tokio::sync::{mpsc, oneshot};

use crate::{
    engine::Context,
    reader::Reader,
    session::{self, Attach, AttachError, Command, Opening},
    store::{Claimed, StoreError},
};

/// How often a reader asks anew when it meets a session that is just being let go of.
const ATTEMPTS_MAX: u32 = 5;

/// A session as one user knows it. Whoever asks for another's session meets only their own attempt
/// to open it, and so can neither crowd its inbox nor learn whether it lives here.
type Key = (SessionId, UserId);

/// A cheap handle to all live sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    context: Arc<Context>,
    /// Held for a look-up or an insertion, never across an `.await`.
    registry: Arc<Mutex<Registry>>,
}

#[derive(Default)]
struct Registry {
    /// Each with the number of its task, so that a task removes only itself.
    live: HashMap<Key, (u64, mpsc::Sender<Command>)>,
    /// How many of them each user has.
    counts: HashMap<UserId, u32>,
    last_number: u64,
    /// Whether sessions are opened no more.
    is_closed: bool,
}

/// A task's entry in the registry, removed when the task is over, be it by a panic.
struct Entry {
    registry: Arc<Mutex<Registry>>,
    key: Key,
    number: u64,
}

impl Sessions {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self {
            context,
            registry: Arc::default(),
        }
    }

    /// Attaches a reader, opening the session if it does not live here.
    ///
    /// A session that waits for its store answers nobody meanwhile, so the wait is bounded.
    pub(crate) async fn attach(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
        after: Option<Seq>,
    ) -> Result<Reader, AttachError> {
        let asking = self.ask(session_id, user_id, after);
        let timeout = self.context.limits.session.attach_timeout;
        let answer = tokio::time::timeout(timeout, asking).await;
        answer.unwrap_or_else(|_elapsed| {
            let cause = "the session could not be opened in time".into();
            Err(AttachError::Store(StoreError::Unavailable(cause)))
        })
    }

    /// Asks the session, and its successor where it is just being let go of.
    async fn ask(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
        after: Option<Seq>,
    ) -> Result<Reader, AttachError> {
        for _ in 0..ATTEMPTS_MAX {
            let commands = self.find_or_open(session_id, user_id)?;
            let (reply, answer) = oneshot::channel();
            match commands.try_send(Command::Attach(Attach { after, reply })) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => return Err(AttachError::Busy),
                Err(mpsc::error::TrySendError::Closed(_)) => continue,
            }
            match answer.await {
                Ok(Err(AttachError::Gone)) | Err(_) => commands.closed().await,
                Ok(answer) => return answer,
            }
        }
        Err(AttachError::Busy)
    }

    fn find_or_open(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
    ) -> Result<mpsc::Sender<Command>, AttachError> {
        let mut registry = lock(&self.registry);
        if registry.is_closed {
            return Err(AttachError::ShuttingDown);
        }
        let opening = Opening::Requested(session_id.clone(), user_id.clone());
        Ok(match registry.live.get(&opening.key()) {
            Some((_, commands)) if !commands.is_closed() => commands.clone(),
            None if self.has_enough(&registry, user_id) => {
                return Err(AttachError::TooManySessions);
            }
            // There is none, or one that is just being let go of and leaves its place.
            _ => self.open(&mut registry, opening),
        })
    }

    fn has_enough(&self, registry: &Registry, user_id: &UserId) -> bool {
        let count = registry.counts.get(user_id).copied().unwrap_or(0);
        count >= self.context.limits.user.sessions_max.get()
    }

    /// Opens a session that was claimed because its holder was lost. It has no reader, so its grace
    /// has begun; one that lives here needs no saving.
    pub(crate) fn adopt(&self, claimed: Claimed) {
        let mut registry = lock(&self.registry);
        if registry.is_closed {
            // Its lease lapses again, for the next server to find.
            return;
        }
        let opening = Opening::Lapsed(Box::new(claimed));
        let lives = registry
            .live
            .get(&opening.key())
            .is_some_and(|(_, commands)| !commands.is_closed());
        if !lives {
            self.open(&mut registry, opening);
        }
    }

    fn open(&self, registry: &mut Registry, opening: Opening) -> mpsc::Sender<Command> {
        registry.last_number += 1;
        let number = registry.last_number;
        let key = opening.key();
        let enter = {
            let (registry, key) = (Arc::clone(&self.registry), key.clone());
            move || Entry {
                registry,
                key,
                number,
            }
        };
        let commands = session::spawn(Arc::clone(&self.context), opening, enter);
        let user_id = key.1.clone();
        let former = registry.live.insert(key, (number, commands.clone()));
        if former.is_none() {
            *registry.counts.entry(user_id).or_default() += 1;
        }
        commands
    }

    /// Opens no more sessions. Those that live go on.
    pub(crate) fn close(&self) {
        lock(&self.registry).is_closed = true;
    }

    /// How many sessions live here.
    pub(crate) fn count(&self) -> usize {
        lock(&self.registry).live.len()
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Registry { live, counts, .. } = &mut *lock(&self.registry);
        let current = live.get(&self.key).map(|(current, _)| *current);
        if current != Some(self.number) {
            return;
        }
        live.remove(&self.key);
        let user_id = &self.key.1;
        if let Some(count) = counts.get_mut(user_id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(user_id);
            }
        }
    }
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    // Nothing that runs under the lock can panic half-way through a change.
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}
