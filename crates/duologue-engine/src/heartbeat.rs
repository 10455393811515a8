//! The heartbeat: says that this server is alive, and learns which of its sessions others have taken over.
//!
//! A server holds all its sessions under one lease, which its heartbeats renew. A lease that lapses loses
//! nothing by itself: a session is lost when another server has claimed it. It learns that here, since it
//! may not write for a long time, and its readers would wait in vain.
//!
//! The heartbeat outlives all sessions: the lease must not lapse while the last answers finish.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    context::Context,
    session_id_hash::SessionIdHash,
    store::{Lease, StoreError},
    supervision::{BackgroundTask, survive_panics},
};

/// How many sessions one heartbeat asks for, so that it is short. With more sessions, they take turns.
const SESSIONS_ASKED_MAX: usize = 500;

/// Starts the heartbeat. It may stop at any point.
pub(crate) fn start(context: Arc<Context>) -> BackgroundTask {
    BackgroundTask::start(async move {
        survive_panics("heartbeat", || run(&context)).await;
    })
}

async fn run(context: &Context) {
    let limits = &context.limits.cluster;
    let mut interval = interval(limits.heartbeat_interval);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_asked = None;
    loop {
        interval.tick().await;
        match beat(context, &mut last_asked).await {
            Ok(()) => context.health.record_heartbeat(),
            Err(error) => {
                context.health.record_failure();
                tracing::warn!(error = &error as &dyn std::error::Error, "heartbeat.failed");
            }
        }
    }
}

/// Renews the lease, and asks for the sessions after `last_asked`.
async fn beat(context: &Context, last_asked: &mut Option<Lease>) -> Result<(), StoreError> {
    let held = context
        .leases
        .after(last_asked.as_ref(), SESSIONS_ASKED_MAX);
    // After the last portion the first one is next.
    *last_asked = held
        .last()
        .filter(|_| held.len() == SESSIONS_ASKED_MAX)
        .cloned();
    let lease = context.limits.cluster.lease;
    let lost = context.store.heartbeat(&context.server, lease, &held);
    for lease in lost.await? {
        tracing::warn!(session.id = %SessionIdHash::from(&lease.session_id), "session.lost");
        context.leases.mark_lost(&lease);
    }
    Ok(())
}
