//! The replay of the events that a returning reader has missed.

use std::{fmt, sync::Arc};

use duologue_protocol::{Seq, ServerFrame};

use crate::{
    reader::frame::{Delivery, SharedFrame},
    store::{Lease, Store, StoreError},
};

/// Events read from the store at a time. They count as delivered, so a page must stay small even
/// with events of the largest size.
const REPLAY_PAGE_EVENTS: u32 = 32;

/// The part of the log that a returning reader has missed.
pub(crate) struct CatchUp {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) lease: Lease,
    pub(crate) after: Seq,
    pub(crate) until: Seq,
    /// What follows the replay: the draft of the answer in progress.
    pub(crate) then: Option<Arc<SharedFrame>>,
}

impl fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CatchUp({}..={})", self.after, self.until)
    }
}

/// Whether the replay is complete.
pub(super) enum Progress {
    More,
    Complete,
}

impl CatchUp {
    /// Appends the next page of missed events to `batch`; after the last one `replayed` and the draft.
    pub(super) async fn page(&mut self, batch: &mut Vec<Delivery>) -> Result<Progress, StoreError> {
        if self.after < self.until {
            let (user, session) = (&self.lease.user_id, &self.lease.session_id);
            let events = self
                .store
                .read(user, session, self.after, REPLAY_PAGE_EVENTS)
                .await?;
            let before = self.after;
            for event in events.into_iter().filter(|event| event.seq <= self.until) {
                self.after = event.seq;
                batch.push(Delivery::Frame(SharedFrame::new(ServerFrame::Event(event))));
            }
            if self.after == before {
                return Err(StoreError::Corrupt(
                    "the log ends before its last event".into(),
                ));
            }
            if self.after < self.until {
                return Ok(Progress::More);
            }
        }
        let replayed = ServerFrame::Replayed { seq: self.until };
        batch.push(Delivery::Frame(SharedFrame::new(replayed)));
        batch.extend(self.then.take().map(Delivery::Frame));
        Ok(Progress::Complete)
    }
}
