//! Saves the texts of answers in progress, so that little of them is lost with the process.
//!
//! One task saves the drafts of all running turns: one store operation per interval for all texts that
//! have grown since. It reads the texts when it saves them, so a piece of text costs nothing here. A
//! session waits for no save and has no error path for one: it is notified when saves start to fail and
//! when they succeed again, and a lost lease reaches it like any other.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    broadcast::AnswerText,
    leases::LeaseRegistry,
    lock::lock,
    store::{Draft, Lease, Store},
};

/// The running turns on this server, by the leases of their sessions. They are in order, so that a
/// simulated server saves them in the same order every time.
#[derive(Default)]
pub(crate) struct DraftBoard {
    answers: Mutex<BTreeMap<Lease, Answer>>,
    /// Notified when an answer was added.
    added: Notify,
}

struct Answer {
    text: AnswerText,
    saved_bytes: usize,
    saves: Arc<Saves>,
}

/// Whether the saves of one answer fail.
#[derive(Default)]
struct Saves {
    are_failing: AtomicBool,
    changed: Notify,
}

/// An answer on the board. Dropping it removes the answer.
pub(crate) struct DraftGuard {
    board: Arc<DraftBoard>,
    lease: Lease,
    saves: Arc<Saves>,
}

impl DraftBoard {
    /// Adds the answer of a turn, whose text is saved until the guard is dropped. A session has one turn
    /// at a time.
    pub(crate) fn add(self: &Arc<Self>, lease: Lease, text: AnswerText) -> DraftGuard {
        let saves = Arc::<Saves>::default();
        let answer = Answer {
            text,
            saved_bytes: 0,
            saves: Arc::clone(&saves),
        };
        lock(&self.answers).insert(lease.clone(), answer);
        self.added.notify_one();
        DraftGuard {
            board: Arc::clone(self),
            lease,
            saves,
        }
    }

    /// Saves drafts forever. Every save can be repeated, so this may stop at any point.
    pub(crate) async fn run(&self, store: &dyn Store, leases: &LeaseRegistry, interval: Duration) {
        loop {
            if lock(&self.answers).is_empty() {
                self.added.notified().await;
            }
            tokio::time::sleep(interval).await;
            self.save(store, leases).await;
        }
    }

    /// Saves the texts that have grown.
    async fn save(&self, store: &dyn Store, leases: &LeaseRegistry) {
        let drafts = self.unsaved();
        if drafts.is_empty() {
            return;
        }
        let result = store.save_drafts(&drafts).await;
        self.record(&drafts, result.is_ok());
        match result {
            Ok(lost) => lost.iter().for_each(|lease| leases.mark_lost(lease)),
            // The answers go on, but their ends will have to be stored. So the sessions are notified now,
            // and the save is repeated, which also detects the end of the outage.
            Err(error) => tracing::warn!(
                drafts = drafts.len(),
                error = &error as &dyn std::error::Error,
                "drafts.not_saved"
            ),
        }
    }

    fn unsaved(&self) -> Vec<(Lease, Draft)> {
        // The texts have locks of their own, which are not taken under this one.
        let answers: Vec<_> = lock(&self.answers)
            .iter()
            .map(|(lease, answer)| (lease.clone(), answer.text.clone(), answer.saved_bytes))
            .collect();
        let drafts = answers
            .into_iter()
            .filter_map(|(lease, text, saved_bytes)| {
                Some((lease, text.draft_beyond(saved_bytes)?))
            });
        drafts.collect()
    }

    /// Records for each answer how the save went, and notifies its session of a change.
    fn record(&self, drafts: &[(Lease, Draft)], is_saved: bool) {
        let mut answers = lock(&self.answers);
        for (lease, draft) in drafts {
            let answer = answers.get_mut(lease);
            let Some(answer) = answer.filter(|answer| answer.text.turn_id() == draft.turn_id)
            else {
                continue;
            };
            if is_saved {
                answer.saved_bytes = draft.text.len();
            }
            let Saves {
                are_failing,
                changed,
            } = &*answer.saves;
            if are_failing.swap(!is_saved, Ordering::Relaxed) == is_saved {
                changed.notify_one();
            }
        }
    }
}

impl DraftGuard {
    /// Waits until saves start to fail (`true`) or succeed again. Safe to cancel.
    pub(crate) async fn failing(&self) -> bool {
        self.saves.changed.notified().await;
        self.saves.are_failing.load(Ordering::Relaxed)
    }
}

impl Drop for DraftGuard {
    fn drop(&mut self) {
        lock(&self.board.answers).remove(&self.lease);
    }
}
