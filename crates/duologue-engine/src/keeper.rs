//! Keeps this server's sessions its own, and ends those whose server was lost.
//!
//! A lost server cannot say so: its leases just lapse. But a lease also lapses while the database is
//! away, or while this server itself was not running, and then the users are only about to come
//! back. So nothing is ended before this server has been up, with a healthy database, for as long as
//! a lease and the grace together.

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{engine::Context, sessions::Sessions, store::StoreError};

/// Abandoned sessions taken up at a time, so that a great many do not crowd out the living.
const SWEEP_SESSIONS_MAX: u32 = 32;

/// Runs until the server drains.
pub(crate) async fn run(context: Arc<Context>, sessions: Sessions) {
    let limits = &context.limits.session;
    let hold_off = limits.lease + limits.resume_grace;
    let mut renewal = interval(limits.lease_renewal_interval);
    let mut sweep = interval(limits.sweep_interval);
    renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut healthy_since = None;
    loop {
        let outcome = tokio::select! {
            () = context.drain.cancelled() => return,
            _ = renewal.tick() => context.store.renew(&context.server, limits.lease).await,
            _ = sweep.tick() => match healthy_since {
                Some(since) if Instant::now() >= since + hold_off => {
                    adopt_lapsed(&context, &sessions).await
                }
                _ => continue,
            },
        };
        match outcome {
            Ok(()) => {
                healthy_since.get_or_insert_with(Instant::now);
            }
            Err(error) => {
                healthy_since = None;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "keeper.store_failed"
                );
            }
        }
    }
}

async fn adopt_lapsed(context: &Context, sessions: &Sessions) -> Result<(), StoreError> {
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
