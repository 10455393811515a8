//! The log of one session and its fold: the only writer of the session's events.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use duologue_protocol::{Event, EventBody, Seq, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    context::Context,
    log::{NewEvent, Receipt, receipt, session_started},
    store::{Job, JobClaim, Lease, Store, StoreError, normalize::stored_time},
    transcript::{MessagePosition, Transcript},
};

/// How long an operation may still take once the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Numbers events, stamps them, stores them, and folds them into the transcript.
pub(super) struct Journal {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    lease: Lease,
    retry_timeout: Duration,
    stop: CancellationToken,
    transcript: Transcript,
    /// Whether readers were notified that storage is unavailable.
    is_degraded: bool,
}

impl Journal {
    /// The journal of the session under `lease`, whose log was folded into `transcript`.
    pub(super) fn new(context: &Context, lease: Lease, transcript: Transcript) -> Self {
        Self {
            store: Arc::clone(&context.store),
            clock: Arc::clone(&context.clock),
            lease,
            retry_timeout: context.limits.session.storage_retry_timeout,
            stop: context.stop.child_token(),
            transcript,
            is_degraded: false,
        }
    }

    pub(super) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What the stored events amount to.
    pub(super) fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// The time that the next event gets. Clocks step back; the time in a log does not. Databases
    /// store microseconds, and what is sent must equal what is read back later.
    pub(super) fn next_time(&self) -> Timestamp {
        let now = stored_time(self.clock.now());
        let last = self.transcript.last_occurred_at;
        last.map_or(now, |last| last.max(now))
    }

    /// The event that every log starts with; `None` if the log has it.
    pub(super) fn start(&self, agent_name: &str) -> Option<NewEvent> {
        if self.transcript.last_seq != Seq::ZERO {
            return None;
        }
        let Lease {
            session_id,
            user_id,
            ..
        } = &self.lease;
        Some((None, session_started(session_id, user_id, agent_name)))
    }

    /// Releases the lease without ending the session. Returns whether that has succeeded.
    pub(super) async fn release(&self) -> bool {
        let released = self.store.release(&self.lease).await;
        if let Err(error) = &released {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                "session.release_failed"
            );
        }
        released.is_ok()
    }

    /// Prepares `entries` to be stored as the next events, all in one commit.
    ///
    /// If the last one is `session_ended`, the same commit releases the session and enqueues the job
    /// that summarises it, for `claim` if that is given.
    pub(super) fn write(&self, entries: Vec<NewEvent>, claim: Option<JobClaim>) -> Write {
        Write {
            store: Arc::clone(&self.store),
            lease: self.lease.clone(),
            after: self.transcript.last_seq,
            events: self.number(entries),
            claim,
            bounds: self.bounds(),
        }
    }

    /// Reads what the log has of a message that was received before, within the time of a write.
    pub(super) fn read_receipt(
        &self,
        position: MessagePosition,
    ) -> impl Future<Output = Result<Receipt, StoreError>> + use<> {
        let (store, lease) = (Arc::clone(&self.store), self.lease.clone());
        let bounds = self.bounds();
        async move {
            let read = receipt(&*store, &lease, position);
            bounds.apply(read).await
        }
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            give_up_at: Instant::now() + self.retry_timeout,
            stop: self.stop.clone(),
        }
    }

    fn number(&self, entries: Vec<NewEvent>) -> Vec<Event> {
        let occurred_at = self.next_time();
        let mut seq = self.transcript.last_seq;
        let numbered = entries.into_iter().map(|(turn_id, body)| {
            seq = seq.next();
            Event {
                seq,
                occurred_at,
                turn_id,
                body,
            }
        });
        numbered.collect()
    }

    /// Folds stored events into the transcript.
    pub(super) fn record(&mut self, events: &[Event]) {
        for event in events {
            self.transcript.apply(event);
        }
    }

    /// Whether storage counted as unavailable up to now; from now on it does if `is_degraded`.
    pub(super) fn set_degraded(&mut self, is_degraded: bool) -> bool {
        std::mem::replace(&mut self.is_degraded, is_degraded)
    }
}

/// How long a session waits for one storage operation.
struct Bounds {
    give_up_at: Instant,
    stop: CancellationToken,
}

impl Bounds {
    /// Waits for `operation` within these bounds.
    ///
    /// A server that stops does not wait for unavailable storage: the next holder of the session
    /// repairs its log.
    async fn apply<T>(
        &self,
        operation: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        tokio::select! {
            biased;
            result = operation => return result,
            () = tokio::time::sleep_until(self.give_up_at) => {}
            () = stopped => {}
        }
        let cause = "the operation did not succeed in time".into();
        Err(StoreError::Unavailable(cause))
    }
}

/// Events on their way into the store.
pub(super) struct Write {
    store: Arc<dyn Store>,
    lease: Lease,
    after: Seq,
    events: Vec<Event>,
    claim: Option<JobClaim>,
    bounds: Bounds,
}

/// Events that are stored.
pub(super) struct Written {
    pub(super) events: Vec<Event>,
    /// The job that the end of the session has enqueued, if it was claimed at once.
    pub(super) job: Option<Job>,
}

impl Write {
    /// Stores the events, and returns them. Repeats the write until it succeeds, is refused, or the
    /// time is over. A repetition is safe: it changes nothing if the write had already succeeded.
    pub(super) async fn store(self) -> Result<Written, StoreError> {
        let job = self.bounds.apply(self.repeat()).await?;
        let events = self.events;
        Ok(Written { events, job })
    }

    async fn repeat(&self) -> Result<Option<Job>, StoreError> {
        let stop = &self.bounds.stop;
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            match self.attempt().await {
                Err(StoreError::Unavailable(cause)) if !stop.is_cancelled() => {
                    tracing::warn!(error = &*cause as &dyn std::error::Error, "store.retry");
                    let delay = delays.next().expect("the number of delays is not limited");
                    stop.run_until_cancelled(tokio::time::sleep(delay)).await;
                }
                result => return result,
            }
        }
    }

    async fn attempt(&self) -> Result<Option<Job>, StoreError> {
        let Self {
            store,
            lease,
            after,
            events,
            claim,
            ..
        } = self;
        let last = events.last().map(|event| &event.body);
        if matches!(last, Some(EventBody::SessionEnded(_))) {
            store.end(lease, *after, events, claim.as_ref()).await
        } else {
            store.append(lease, *after, events).await?;
            Ok(None)
        }
    }
}
