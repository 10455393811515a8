//! A session's pen: numbers events, stamps them, and stores them before anyone is told.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use duologue_protocol::{Event, EventBody, Seq, TurnId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    store::{Lease, Store, StoreError, normalize::stored_time},
    transcript::Transcript,
};

/// How long a write that waits for its answer is waited for once the server stops.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// An event to be: its turn, and what happened.
pub(crate) type Entry = (Option<TurnId>, EventBody);

/// Appends to one session's log. Only its session task has one.
pub(crate) struct Log {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    lease: Lease,
    retry: Retry,
}

/// How long a write is repeated while the store does not answer.
pub(crate) struct Retry {
    pub(crate) timeout: Duration,
    /// Once cancelled, a write that fails is tried once more at most.
    pub(crate) stop: CancellationToken,
}

impl Log {
    /// The pen of whoever holds the session.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        lease: Lease,
        retry: Retry,
    ) -> Self {
        Self {
            store,
            clock,
            lease,
            retry,
        }
    }

    /// What the session is held under.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Where it writes.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Prepares `entries` to be stored as the next events, all in one commit.
    ///
    /// Where the last one is `session_ended`, the session is given up in the same commit, and a job
    /// is left that will sum it up.
    pub(crate) fn write(&self, transcript: &Transcript, entries: Vec<Entry>) -> Write {
        Write {
            store: Arc::clone(&self.store),
            lease: self.lease.clone(),
            after: transcript.last_seq,
            events: self.number(transcript, entries),
            give_up_at: Instant::now() + self.retry.timeout,
            stop: self.retry.stop.clone(),
        }
    }

    fn number(&self, transcript: &Transcript, entries: Vec<Entry>) -> Vec<Event> {
        // Clocks step back; the log's time does not. Databases keep microseconds, and what is sent
        // must equal what is read back later.
        let now = stored_time(self.clock.now());
        let occurred_at = transcript
            .last_occurred_at
            .map_or(now, |last| last.max(now));
        let mut seq = transcript.last_seq;
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
}

/// Events on their way into the store.
pub(crate) struct Write {
    store: Arc<dyn Store>,
    lease: Lease,
    after: Seq,
    events: Vec<Event>,
    give_up_at: Instant,
    stop: CancellationToken,
}

impl Write {
    /// Repeats the write until it is done, refused, or the time is over. That is safe, since a write
    /// that had succeeded unnoticed changes nothing when it is repeated.
    ///
    /// A server that stops does not wait for a store that is away: whoever holds the session next
    /// repairs its log.
    pub(crate) async fn store(&self) -> Result<(), StoreError> {
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LAST_PATIENCE).await;
        };
        tokio::select! {
            biased;
            stored = self.repeat() => return stored,
            () = tokio::time::sleep_until(self.give_up_at) => {}
            () = stopped => {}
        }
        let cause = "the write was not done in time".into();
        Err(StoreError::Unavailable(cause))
    }

    async fn repeat(&self) -> Result<(), StoreError> {
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            match self.attempt().await {
                Err(StoreError::Unavailable(cause)) if !self.stop.is_cancelled() => {
                    tracing::warn!(error = &*cause as &dyn std::error::Error, "store.retry");
                    let delay = delays.next().expect("the number of delays is not limited");
                    let wait = tokio::time::sleep(delay);
                    self.stop.run_until_cancelled(wait).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self) -> Result<(), StoreError> {
        let Self {
            store,
            lease,
            after,
            events,
            ..
        } = self;
        let last = events.last().map(|event| &event.body);
        if matches!(last, Some(EventBody::SessionEnded(_))) {
            store.end(lease, *after, events).await
        } else {
            store.append(lease, *after, events).await
        }
    }

    /// The events, once they are stored.
    pub(crate) fn into_events(self) -> Vec<Event> {
        self.events
    }
}

/// Folds a session's whole log into `transcript`, a page at a time.
pub(crate) async fn fold(
    store: &dyn Store,
    lease: &Lease,
    mut transcript: Transcript,
) -> Result<Transcript, StoreError> {
    for_each_event(store, lease, Seq::ZERO, |event| transcript.apply(&event)).await?;
    Ok(transcript)
}

/// Visits the events after `after` to the end of the log, oldest first, a page at a time.
pub(crate) async fn for_each_event(
    store: &dyn Store,
    lease: &Lease,
    after: Seq,
    mut visit: impl FnMut(Event) + Send,
) -> Result<(), StoreError> {
    // After a restart many sessions are opened at once, each with a page in memory.
    const PAGE_EVENTS: u32 = 100;
    let mut after = after;
    loop {
        let page = store
            .read(&lease.user_id, &lease.session_id, after, PAGE_EVENTS)
            .await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.seq;
        page.into_iter().for_each(&mut visit);
    }
}
