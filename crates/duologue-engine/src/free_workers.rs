//! The workers of this server that wait for a job, so that an ending can hand its job to one of them.
//!
//! A worker without a job offers itself here while it waits. A session that ends reserves such a worker
//! first, and asks the store to enqueue the job as claimed by it; so the job is not claimed by an operation
//! of its own. A user whose job is at work here gets no second worker that way: the job waits in the table,
//! where the oldest comes first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use duologue_protocol::UserId;
use tokio::sync::oneshot;

use crate::{
    lock::lock,
    store::{Job, ServerId},
};

/// See the module.
#[derive(Default)]
pub(crate) struct FreeWorkers(Mutex<State>);

#[derive(Default)]
struct State {
    /// In order, so that a simulated server chooses the same one every time.
    offers: BTreeMap<ServerId, oneshot::Sender<AssignedJob>>,
    /// How many jobs of each user are at work here.
    at_work: BTreeMap<UserId, u32>,
}

/// A job that was handed to a worker.
pub(crate) struct AssignedJob {
    pub(crate) job: Job,
    pub(crate) at_work: UserAtWork,
}

/// Counts a user's job as at work, until it is dropped.
pub(crate) struct UserAtWork {
    workers: Arc<FreeWorkers>,
    user_id: UserId,
}

/// A worker that waits for a job. Dropping it withdraws the offer.
pub(crate) struct Offer {
    workers: Arc<FreeWorkers>,
    worker: ServerId,
    assigned: oneshot::Receiver<AssignedJob>,
}

/// A worker that waits for the job of one session. Dropping it sends the worker back to the table.
pub(crate) struct ReservedWorker {
    worker: ServerId,
    assign: oneshot::Sender<AssignedJob>,
    at_work: UserAtWork,
}

impl FreeWorkers {
    /// Offers a worker.
    pub(crate) fn offer(self: &Arc<Self>, worker: ServerId) -> Offer {
        let (assign, assigned) = oneshot::channel();
        lock(&self.0).offers.insert(worker.clone(), assign);
        Offer {
            workers: Arc::clone(self),
            worker,
            assigned,
        }
    }

    /// Reserves a worker for a job of `user_id`, if one is free and no job of the user is at work.
    pub(crate) fn reserve(self: &Arc<Self>, user_id: &UserId) -> Option<ReservedWorker> {
        let mut state = lock(&self.0);
        if state.at_work.contains_key(user_id) {
            return None;
        }
        let (worker, assign) = state.offers.pop_first()?;
        Some(ReservedWorker {
            worker,
            assign,
            at_work: self.enter(&mut state, user_id),
        })
    }

    /// Counts a job that a worker has claimed from the table.
    pub(crate) fn start_work(self: &Arc<Self>, user_id: &UserId) -> UserAtWork {
        self.enter(&mut lock(&self.0), user_id)
    }

    fn enter(self: &Arc<Self>, state: &mut State, user_id: &UserId) -> UserAtWork {
        *state.at_work.entry(user_id.clone()).or_default() += 1;
        UserAtWork {
            workers: Arc::clone(self),
            user_id: user_id.clone(),
        }
    }
}

impl Offer {
    /// Waits for a job until `given_up`. `None`: nobody has one for this worker.
    pub(crate) async fn wait(mut self, given_up: impl Future<Output = ()>) -> Option<AssignedJob> {
        tokio::select! {
            biased;
            assigned = &mut self.assigned => return assigned.ok(),
            () = given_up => {}
        }
        if lock(&self.workers.0).offers.remove(&self.worker).is_some() {
            return None;
        }
        // A session has reserved the worker, and is about to end.
        (&mut self.assigned).await.ok()
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        lock(&self.workers.0).offers.remove(&self.worker);
    }
}

impl ReservedWorker {
    pub(crate) fn worker(&self) -> &ServerId {
        &self.worker
    }

    /// Hands the job over, which the worker has claimed.
    pub(crate) fn assign(self, job: Job) {
        let assigned = AssignedJob {
            job,
            at_work: self.at_work,
        };
        if let Err(AssignedJob { job, .. }) = self.assign.send(assigned) {
            tracing::warn!(job.id, "the job's worker is gone; its lease will expire");
        }
    }
}

impl Drop for UserAtWork {
    fn drop(&mut self) {
        let at_work = &mut lock(&self.workers.0).at_work;
        if let Some(count) = at_work.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                at_work.remove(&self.user_id);
            }
        }
    }
}
