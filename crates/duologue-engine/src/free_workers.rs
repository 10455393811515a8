//! The workers of this server that wait for a job, and who finds one for them.
//!
//! A worker without a job offers itself here. A session that ends reserves such a worker first, and asks the
//! store to enqueue the job as claimed by it; so the job is not claimed by an operation of its own. A user whose
//! job is at work here gets no second worker that way: the job waits in the table, where the oldest comes first.
//! While jobs may be waiting there, workers are reserved for the table only.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use duologue_protocol::UserId;
use tokio::sync::{Notify, oneshot};

use crate::{
    lock::lock,
    store::{Job, ServerId},
};

/// See the module.
#[derive(Default)]
pub(crate) struct FreeWorkers {
    state: Mutex<State>,
    /// Notified when a job may be waiting in the table for a worker that is free.
    dispatch: Notify,
}

#[derive(Default)]
struct State {
    /// In order, so that a simulated server chooses the same one every time.
    offers: BTreeMap<ServerId, oneshot::Sender<AssignedJob>>,
    /// How many jobs of each user are at work here.
    at_work: BTreeMap<UserId, u32>,
    /// Whether jobs may be waiting in the table.
    jobs_wait: bool,
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

/// A worker that waits for one job. Dropping it sets the worker free again.
pub(crate) struct ReservedWorker {
    workers: Arc<FreeWorkers>,
    worker: ServerId,
    assign: oneshot::Sender<AssignedJob>,
    /// Counted from the reservation on, where the job's user is known then.
    at_work: Option<UserAtWork>,
}

impl FreeWorkers {
    /// Offers a worker.
    pub(crate) fn offer(self: &Arc<Self>, worker: ServerId) -> Offer {
        let (assign, assigned) = oneshot::channel();
        let mut state = lock(&self.state);
        state.offers.insert(worker.clone(), assign);
        if state.jobs_wait {
            self.dispatch.notify_one();
        }
        Offer {
            workers: Arc::clone(self),
            worker,
            assigned,
        }
    }

    /// Reserves a worker for a job of `user_id`, if one is free, no job of the user is at work, and no other
    /// job waits.
    pub(crate) fn reserve(self: &Arc<Self>, user_id: &UserId) -> Option<ReservedWorker> {
        let mut state = lock(&self.state);
        if state.jobs_wait || state.at_work.contains_key(user_id) {
            return None;
        }
        let (worker, assign) = state.offers.pop_first()?;
        Some(ReservedWorker {
            workers: Arc::clone(self),
            worker,
            assign,
            at_work: Some(self.enter(&mut state, user_id)),
        })
    }

    /// Reserves a worker for a job of the table, if one is free.
    pub(crate) fn reserve_for_table(self: &Arc<Self>) -> Option<ReservedWorker> {
        let (worker, assign) = lock(&self.state).offers.pop_first()?;
        Some(ReservedWorker {
            workers: Arc::clone(self),
            worker,
            assign,
            at_work: None,
        })
    }

    /// A job was left in the table.
    pub(crate) fn job_waits(&self) {
        lock(&self.state).jobs_wait = true;
        self.dispatch.notify_one();
    }

    /// The table had no job that was due.
    pub(crate) fn table_is_empty(&self) {
        lock(&self.state).jobs_wait = false;
    }

    /// Waits until a job may be waiting in the table for a worker that is free. Safe to cancel.
    pub(crate) async fn jobs_may_wait(&self) {
        self.dispatch.notified().await;
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
        if lock(&self.workers.state)
            .offers
            .remove(&self.worker)
            .is_some()
        {
            return None;
        }
        // A session has reserved the worker, and is about to end.
        (&mut self.assigned).await.ok()
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        lock(&self.workers.state).offers.remove(&self.worker);
    }
}

impl ReservedWorker {
    pub(crate) fn worker(&self) -> &ServerId {
        &self.worker
    }

    /// Hands the job over, which the worker has claimed.
    pub(crate) fn assign(self, job: Job) {
        let at_work = self.at_work.unwrap_or_else(|| {
            let mut state = lock(&self.workers.state);
            self.workers.enter(&mut state, &job.user_id)
        });
        let assigned = AssignedJob { job, at_work };
        if let Err(AssignedJob { job, .. }) = self.assign.send(assigned) {
            tracing::warn!(job.id, "the job's worker is gone; its lease will expire");
        }
    }
}

impl Drop for UserAtWork {
    fn drop(&mut self) {
        let at_work = &mut lock(&self.workers.state).at_work;
        if let Some(count) = at_work.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                at_work.remove(&self.user_id);
            }
        }
    }
}
