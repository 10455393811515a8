//! Keeping the text of a forming answer, so that little of it is lost with the process.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::{Duration, Instant};

use crate::{
    session::{Session, Step, until},
    store::StoreError,
};

/// When the text is kept again. One write at a time, which the answer does not wait for.
#[derive(Default)]
pub(super) struct Drafts {
    /// Unless the text has not changed since it was kept.
    due: Option<Instant>,
    saving: Option<BoxFuture<'static, Result<(), StoreError>>>,
}

/// What there is to do about drafts.
pub(super) enum DraftNews {
    /// The text is to be kept.
    Due,
    /// It was kept, or not.
    Saved(Result<(), StoreError>),
}

impl Drafts {
    /// The text has changed.
    pub(super) fn changed(&mut self, interval: Duration) {
        self.due.get_or_insert_with(|| Instant::now() + interval);
    }

    /// Waits for something to do. Safe to cancel.
    pub(super) async fn next(&mut self) -> DraftNews {
        if let Some(saving) = &mut self.saving {
            let saved = saving.await;
            self.saving = None;
            DraftNews::Saved(saved)
        } else {
            until(self.due).await;
            DraftNews::Due
        }
    }
}

impl Session {
    /// Begins to keep the text, or notes that it was kept.
    ///
    /// The write may still be on its way when the turn is over. That does no harm: a draft names its
    /// turn, and counts only while that is open.
    pub(super) fn mind_draft(&mut self, news: DraftNews) -> Step {
        match news {
            DraftNews::Due => self.save_draft(),
            DraftNews::Saved(Err(StoreError::Unavailable(cause))) => {
                tracing::warn!(error = &*cause as &dyn std::error::Error, "draft.not_saved");
                // The answer goes on, but its end will have to be stored. So readers are told now,
                // and the draft is tried again: it also finds out when the trouble is over.
                self.store_is_away();
                let interval = self.context.limits.session.draft_interval;
                if let Some(turn) = &mut self.turn {
                    turn.drafts.changed(interval);
                }
            }
            DraftNews::Saved(saved) => {
                saved?;
                self.store_is_back();
            }
        }
        Ok(())
    }

    fn save_draft(&mut self) {
        let Some(turn) = &mut self.turn else { return };
        let (store, lease) = (Arc::clone(self.log.store()), self.log.lease().clone());
        let draft = turn.draft();
        turn.drafts = Drafts {
            due: None,
            saving: Some(Box::pin(
                async move { store.save_draft(&lease, &draft).await },
            )),
        };
    }
}
