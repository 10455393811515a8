//! What is held must be let go of, whatever happens to the task that holds it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{engine::Context, store::Hold};

/// Holds whose tasks are gone without a word to the store: it was away, or they panicked.
///
/// A server renews all it holds, so such a session would never lapse, and never end, as long as the
/// server runs. The keeper lets go of them as soon as the store answers. There are at most as many
/// as there were sessions when it went away.
#[derive(Default)]
pub(crate) struct LeftHolds(Mutex<Vec<Hold>>);

impl LeftHolds {
    pub(crate) fn put(&self, hold: Hold) {
        self.lock().push(hold);
    }

    pub(crate) fn take(&self) -> Option<Hold> {
        self.lock().pop()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Hold>> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hold whose holder must say that it is over. One that is dropped before is left to the keeper.
pub(super) struct Holding {
    context: Arc<Context>,
    hold: Option<Hold>,
}

impl Holding {
    pub(super) fn new(context: Arc<Context>, hold: Hold) -> Self {
        Self {
            context,
            hold: Some(hold),
        }
    }

    /// The store knows that the session is not held any more, or held by another.
    pub(super) fn is_over(&mut self) {
        self.hold = None;
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.context.left_holds.put(hold);
        }
    }
}
