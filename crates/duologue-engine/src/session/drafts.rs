//! When the text of an answer in progress is saved, so that little of it is lost with the process.

use tokio::{
    task::JoinHandle,
    time::{Duration, Instant},
};
use tokio_util::task::AbortOnDropHandle;

use crate::store::StoreError;

/// The schedule of draft saves. One save at a time; the answer does not wait for it.
#[derive(Default)]
pub(super) struct DraftSchedule {
    /// `None` if the text has not changed since it was saved.
    due: Option<Instant>,
    /// The running save. It runs in a task, so that it advances whatever the session waits for.
    saving: Option<AbortOnDropHandle<Result<(), StoreError>>>,
}

/// What happens next about drafts.
pub(super) enum DraftEvent {
    /// The text has to be saved.
    Due,
    /// A save is over.
    Saved(Result<(), StoreError>),
}

impl DraftSchedule {
    /// The text has changed.
    pub(super) fn changed(&mut self, interval: Duration) {
        self.due.get_or_insert_with(|| Instant::now() + interval);
    }

    /// A save of the current text has started.
    pub(super) fn started(&mut self, save: JoinHandle<Result<(), StoreError>>) {
        self.due = None;
        self.saving = Some(AbortOnDropHandle::new(save));
    }

    /// Waits for the next event. Safe to cancel.
    pub(super) async fn next(&mut self) -> DraftEvent {
        if let Some(saving) = &mut self.saving {
            let saved = saving.await;
            self.saving = None;
            DraftEvent::Saved(saved.unwrap_or_else(|error| {
                // The save panicked, or the runtime is shutting down.
                Err(StoreError::Unavailable(error.into()))
            }))
        } else if let Some(due) = self.due {
            tokio::time::sleep_until(due).await;
            DraftEvent::Due
        } else {
            std::future::pending().await
        }
    }
}
