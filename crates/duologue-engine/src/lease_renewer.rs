//! The lease renewer and sweeper: renews the leases of this server's sessions, and ends sessions
//! whose server was lost.
//!
//! A lost server does not report its end; its leases expire. A lease also expires while the database is
//! unavailable, or while this server was paused, and then users are about to reconnect. So no session
//! is ended before this server has run, with a healthy database, for as long as a lease and the grace
//! period together.
//!
//! The renewer outlives all sessions: their leases must not expire while the last answers finish.

use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};

use crate::{
    context::Context,
    session_id_hash::SessionIdHash,
    sessions::Sessions,
    store::StoreError,
    supervision::{BackgroundTask, survive_panics},
};

/// Abandoned sessions taken over per sweep, so that many of them do not delay active sessions.
const SWEEP_SESSIONS_MAX: u32 = 32;

/// Leases renewed by one store operation, so that each operation is short.
const RENEWED_LEASES_MAX: usize = 1000;

/// Starts the renewer. It may stop at any point: its operations can be repeated, or their effects lapse.
pub(crate) fn start(context: Arc<Context>, sessions: Sessions) -> BackgroundTask {
    BackgroundTask::start(async move {
        survive_panics("lease renewer", || run(&context, &sessions)).await;
    })
}

async fn run(context: &Context, sessions: &Sessions) {
    let limits = &context.limits.session;
    let mut renewal = interval(limits.lease_renewal_interval);
    let mut sweep = interval(limits.sweep_interval);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let health = &context.health;
    loop {
        let result = tokio::select! {
            // After a pause both are due; the server's own sessions come first.
            biased;
            _ = renewal.tick() => renew(context).await.map(|()| health.record_renewal(limits.lease)),
            _ = sweep.tick() => {
                if health.has_lasted(limits.lease + limits.resume_grace) {
                    adopt_lapsed(context, sessions).await
                } else {
                    Ok(())
                }
            }
        };
        if let Err(error) = result {
            health.record_failure();
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "leases.store_failed"
            );
        }
    }
}

/// Renews all registered leases. A session that another server has claimed meanwhile is notified:
/// it may not write for a long time, and its readers would wait in vain.
async fn renew(context: &Context) -> Result<(), StoreError> {
    let leases = context.leases.all();
    let mut rest = &*leases;
    // Without leases, the empty renewal still checks whether the store answers.
    loop {
        let (portion, others) = rest.split_at(rest.len().min(RENEWED_LEASES_MAX));
        let lease = context.limits.session.lease;
        for lost in context.store.renew(&context.server, portion, lease).await? {
            tracing::warn!(session.id = %SessionIdHash::from(&lost.session_id), "session.lost");
            context.leases.mark_lost(&lost);
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
