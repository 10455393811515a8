//! The sessions on this server: one task each, found by id and user.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use duologue_protocol::{SessionId, UserId};

use crate::{
    context::Context,
    lock::lock,
    reader::Reader,
    session::{self, AttachError, Opening, Position, SessionHandle},
    store::{Claimed, StoreError},
};

/// How often attaching is repeated if the session is just being released.
const ATTEMPTS_MAX: u32 = 5;

/// A session of one user. A request for another user's session reaches only its own attempt to open
/// it, so it can neither fill the session's inbox nor detect whether the session is active here.
type Key = (SessionId, UserId);

/// A cheap handle to all active sessions.
#[derive(Clone)]
pub(crate) struct Sessions {
    context: Arc<Context>,
    /// Locked for a look-up or an insertion, never across an `.await`.
    registry: Arc<Mutex<Registry>>,
}

#[derive(Default)]
struct Registry {
    /// Each with the number of its task, so that a task removes only itself.
    active: BTreeMap<Key, (u64, SessionHandle)>,
    /// How many of them each user has.
    counts: BTreeMap<UserId, u32>,
    last_number: u64,
    /// Whether no more sessions are opened.
    is_closed: bool,
}

/// A task's place in the registry, removed when the task is over, also after a panic.
struct Registration {
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

    /// Attaches a reader, opening the session if it is not active here.
    ///
    /// Opening waits for storage, so the wait is bounded.
    pub(crate) async fn attach(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
        position: Option<&Position>,
    ) -> Result<Reader, AttachError> {
        let attach = self.try_attach(session_id, user_id, position);
        let timeout = self.context.limits.session.attach_timeout;
        let attached = tokio::time::timeout(timeout, attach).await;
        attached.unwrap_or_else(|_elapsed| {
            let cause = "the session could not be opened in time".into();
            Err(AttachError::Store(StoreError::Unavailable(cause)))
        })
    }

    /// Attaches to the session, or to its next task if the present one is just being released.
    async fn try_attach(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
        position: Option<&Position>,
    ) -> Result<Reader, AttachError> {
        for _ in 0..ATTEMPTS_MAX {
            let session = self.find_or_open(session_id, user_id)?;
            match session.attach(position.cloned()).await {
                Err(AttachError::Gone) => {}
                attached => return attached,
            }
        }
        Err(AttachError::Busy)
    }

    fn find_or_open(
        &self,
        session_id: &SessionId,
        user_id: &UserId,
    ) -> Result<SessionHandle, AttachError> {
        let mut registry = lock(&self.registry);
        if registry.is_closed {
            return Err(AttachError::ShuttingDown);
        }
        let opening = Opening::Requested(session_id.clone(), user_id.clone());
        Ok(match registry.active.get(&opening.key()) {
            Some((_, session)) if !session.is_closed() => session.clone(),
            None if self.is_at_limit(&registry, user_id) => {
                return Err(AttachError::TooManySessions);
            }
            // There is none, or one that is just being released and leaves its place.
            _ => self.open(&mut registry, opening),
        })
    }

    fn is_at_limit(&self, registry: &Registry, user_id: &UserId) -> bool {
        let count = registry.counts.get(user_id).copied().unwrap_or(0);
        count >= self.context.limits.user.sessions_max.get()
    }

    /// Opens a session that was claimed because nobody looked after it, unless it is active here. It has
    /// no reader, and its grace has passed.
    pub(crate) fn adopt(&self, claimed: Claimed) {
        let mut registry = lock(&self.registry);
        let key = (
            claimed.lease.session_id.clone(),
            claimed.lease.user_id.clone(),
        );
        let active = registry.active.get(&key);
        if registry.is_closed || active.is_some_and(|(_, session)| !session.is_closed()) {
            let (session_id, user_id) = key;
            let epoch = Some(claimed.lease.epoch);
            self.context.leases.abandon(session_id, user_id, epoch);
        } else {
            self.open(&mut registry, Opening::Lapsed(Box::new(claimed)));
        }
    }

    fn open(&self, registry: &mut Registry, opening: Opening) -> SessionHandle {
        registry.last_number += 1;
        let number = registry.last_number;
        let key = opening.key();
        let enter = {
            let (registry, key) = (Arc::clone(&self.registry), key.clone());
            move || Registration {
                registry,
                key,
                number,
            }
        };
        let session = session::spawn(Arc::clone(&self.context), opening, enter);
        let user_id = key.1.clone();
        let former = registry.active.insert(key, (number, session.clone()));
        if former.is_none() {
            *registry.counts.entry(user_id).or_default() += 1;
        }
        session
    }

    /// Opens no more sessions. The active ones continue.
    pub(crate) fn close(&self) {
        lock(&self.registry).is_closed = true;
    }

    /// The number of active sessions.
    pub(crate) fn count(&self) -> usize {
        lock(&self.registry).active.len()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Registry { active, counts, .. } = &mut *lock(&self.registry);
        let current = active.get(&self.key).map(|(current, _)| *current);
        if current != Some(self.number) {
            return;
        }
        active.remove(&self.key);
        let user_id = &self.key.1;
        if let Some(count) = counts.get_mut(user_id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(user_id);
            }
        }
    }
}
