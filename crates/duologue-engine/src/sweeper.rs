//! The sweeper: ends sessions that nobody looks after.
//!
//! A lost server does not report its end; its lease lapses. A lease also lapses while the database is
//! unavailable, or while a server was paused, and then users are about to reconnect. So no session is ended
//! before this server has run, with a healthy database, for as long as a lease and the grace period together.
//!
//! The lease of this server does not lapse, so sessions that have no task here any more are named: see
//! [`LeaseRegistry`](crate::leases::LeaseRegistry).

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    context::Context,
    sessions::Sessions,
    store::{StoreError, Sweep},
    supervision::{BackgroundTask, survive_panics},
};

/// Sessions taken over per sweep, so that many of them do not delay active sessions.
const SESSIONS_MAX: u32 = 32;

/// Starts the sweeper. It may stop at any point: what it has claimed lapses with this server's lease.
pub(crate) fn start(context: Arc<Context>, sessions: Sessions) -> BackgroundTask {
    BackgroundTask::start(async move {
        survive_panics("sweeper", || run(&context, &sessions)).await;
    })
}

async fn run(context: &Context, sessions: &Sessions) {
    let hold_off = context.limits.cluster.lease + context.limits.session.resume_grace;
    let mut interval = interval(context.limits.session.sweep_interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if context.drain.is_cancelled() || !context.health.has_lasted(hold_off) {
            continue;
        }
        if let Err(error) = sweep(context, sessions).await {
            context.health.record_failure();
            tracing::warn!(error = &error as &dyn std::error::Error, "sweep.failed");
        }
    }
}

async fn sweep(context: &Context, sessions: &Sessions) -> Result<(), StoreError> {
    let grace = context.limits.session.resume_grace;
    let abandoned = context.leases.abandoned_for(grace, SESSIONS_MAX as usize);
    let sweep = Sweep {
        server: context.server.clone(),
        lease_duration: context.limits.cluster.lease,
        grace,
        abandoned,
        limit: SESSIONS_MAX,
    };
    let claimed = context.store.claim_lapsed(&sweep).await?;
    if claimed.len() < SESSIONS_MAX as usize {
        // None was left out for lack of room: those that were not claimed are not this server's any more.
        context.leases.forget(&sweep.abandoned);
    }
    for claimed in claimed {
        sessions.adopt(claimed);
    }
    Ok(())
}
