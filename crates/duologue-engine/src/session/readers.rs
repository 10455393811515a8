//! The readers attached to one session, as the session's task has them.

use std::{ops::Deref, sync::Arc};

use crate::broadcast::Broadcast;

/// The session's broadcast, shared with its turns. A turn may outlive the task after a panic of it, but then
/// reaches no reader any more.
#[derive(Debug, Default)]
pub(super) struct Readers(Arc<Broadcast>);

impl Readers {
    /// The broadcast, for a turn.
    pub(super) fn share(&self) -> Arc<Broadcast> {
        Arc::clone(&self.0)
    }
}

impl Deref for Readers {
    type Target = Broadcast;

    fn deref(&self) -> &Broadcast {
        &self.0
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
