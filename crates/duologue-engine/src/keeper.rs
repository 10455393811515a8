//! Keeps this server's sessions its own, and ends those whose server was lost.
//!
//! A lost server cannot say so: its leases just lapse. But a lease also lapses while the database is
//! away, or while this server itself was not running, and then the users are only about to come
//! back. So nothing is ended before this server has been up, with a healthy database, for as long as
//! a lease and the grace together.
//!
//! The keeper outlives all sessions: while the last answers finish, their leases must not lapse.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    SessionIdHash, engine::Context, sessions::Sessions, store::StoreError,
    supervision::survive_panics,
};

/// Abandoned sessions taken up at a time, so that a great many do not crowd out the living.
const SWEEP_SESSIONS_MAX: u32 = 32;

/// Leases renewed by one call, so that none takes long, whatever the server holds.
const RENEWED_HOLDS_MAX: usize = 1000;

/// Stops the keeper. Dropping it does so as well, without waiting.
pub(crate) struct Handle {
    task: TaskTracker,
    stop: CancellationToken,
}

impl Handle {
    /// Stops the keeper, and waits until it has.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.task.close();
        self.task.wait().await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts the keeper, which runs until it is told to stop.
pub(crate) fn start(context: Arc<Context>, sessions: Sessions) -> Handle {
    let stop = CancellationToken::new();
    let task = TaskTracker::new();
    let stopped = stop.clone();
    task.spawn(async move {
        // It may stop at any point: what it does can be repeated, or lapses by itself.
        let work = survive_panics("keeper", || run(&context, &sessions));
        stopped.run_until_cancelled(work).await;
    });
    Handle { task, stop }
}

async fn run(context: &Context, sessions: &Sessions) {
    let limits = &context.limits.session;
    let mut renewal = interval(limits.lease_renewal_interval);
    let mut sweep = interval(limits.sweep_interval);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let health = &context.health;
    loop {
        let outcome = tokio::select! {
            // A server that stood still finds both due, and must look after its own sessions first.
            biased;
            _ = renewal.tick() => renew(context).await.map(|()| health.renewed(limits.lease)),
            _ = sweep.tick() => {
                if health.is_good_for(limits.lease + limits.resume_grace) {
                    adopt_lapsed(context, sessions).await
                } else {
                    Ok(())
                }
            }
        };
        if let Err(error) = outcome {
            health.failed();
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "keeper.store_failed"
            );
        }
    }
}

/// Since when this server has been up without a break, with a healthy database.
///
/// Only such time counts as time in which users could have come back.
#[derive(Default)]
pub(crate) struct Health(Mutex<Spell>);

#[derive(Default)]
struct Spell {
    since: Option<Instant>,
    renewed_at: Option<Instant>,
}

impl Health {
    /// The moment; none while the database is away.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.lock().since
    }

    /// The leases were renewed. If that comes so late that they had lapsed, health begins anew.
    fn renewed(&self, lease: Duration) {
        let now = Instant::now();
        let mut spell = self.lock();
        if spell.renewed_at.is_none_or(|before| now - before > lease) {
            spell.since = Some(now);
        }
        spell.renewed_at = Some(now);
    }

    /// The database did not answer.
    fn failed(&self) {
        *self.lock() = Spell::default();
    }

    fn is_good_for(&self, hold_off: Duration) -> bool {
        self.since()
            .is_some_and(|since| Instant::now() >= since + hold_off)
    }

    fn lock(&self) -> MutexGuard<'_, Spell> {
        // Nothing that runs under the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews what lives here. A session that another server has claimed meanwhile is told so, since it
/// might not write for a long time, and its readers would wait in vain.
async fn renew(context: &Context) -> Result<(), StoreError> {
    let leases = context.leases.all();
    let mut rest = &*leases;
    // With nothing to renew, the store is still asked whether it answers.
    loop {
        let (portion, others) = rest.split_at(rest.len().min(RENEWED_HOLDS_MAX));
        let lease = context.limits.session.lease;
        for lost in context.store.renew(&context.server, portion, lease).await? {
            tracing::warn!(session.id = %SessionIdHash::from(&lost.session_id), "session.lost");
            context.leases.lose(&lost);
        }
        if others.is_empty() {
            return Ok(());
        }
        rest = others;
    }
}

async fn adopt_lapsed(context: &Context, sessions: &Sessions) -> Result<(), StoreError> {
    if context.drain.is_cancelled() {
        return Ok(());
    }
    let limits = &context.limits.session;
    let lapsed = context
        .store
        .claim_lapsed(
            &context.server,
            limits.lease,
            limits.resume_grace,
            SWEEP_SESSIONS_MAX,
        )
        .await?;
    for claimed in lapsed {
        sessions.adopt(claimed);
    }
    Ok(())
}
