//! A session's pen: numbers events, stamps them, and stores them before anyone is told.

use std::{sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use duologue_protocol::{Event, EventBody, Seq, TurnId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    store::{Hold, Store, StoreError, kept::stored_time},
    transcript::Transcript,
};

/// An event to be: its turn, and what happened.
pub(crate) type Entry = (Option<TurnId>, EventBody);

/// Appends to one session's log. Only its session task has one.
pub(crate) struct Log {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    hold: Hold,
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
        hold: Hold,
        retry: Retry,
    ) -> Self {
        Self {
            store,
            clock,
            hold,
            retry,
        }
    }

    /// What the session is held under.
    pub(crate) fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Where it writes.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Stores `entries` as the next events, all in one commit, and folds them into `transcript`.
    ///
    /// Where the last one is `session_ended`, the session is given up in the same commit, and a job
    /// is left that will sum it up.
    pub(crate) async fn append(
        &self,
        transcript: &mut Transcript,
        entries: Vec<Entry>,
    ) -> Result<Vec<Event>, StoreError> {
        let after = transcript.last_seq;
        let is_end = matches!(entries.last(), Some((_, EventBody::SessionEnded(_))));
        let events = self.number(transcript, entries);
        let write = || {
            if is_end {
                self.store.end(&self.hold, after, &events)
            } else {
                self.store.append(&self.hold, after, &events)
            }
        };
        self.persist(write).await?;
        for event in &events {
            transcript.apply(event);
        }
        Ok(events)
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

    /// Repeats a write until it is done, refused, or the time is over. That is safe, since a write
    /// that had succeeded unnoticed changes nothing when it is repeated.
    ///
    /// A server that stops does not wait for a store that is away: whoever holds the session next
    /// repairs its log.
    async fn persist<F>(&self, write: impl Fn() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        let Retry { timeout, stop } = &self.retry;
        let give_up_at = Instant::now() + *timeout;
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .without_max_times()
            .with_jitter()
            .build();
        loop {
            match write().await {
                Err(StoreError::Unavailable(cause))
                    if Instant::now() < give_up_at && !stop.is_cancelled() =>
                {
                    tracing::warn!(error = &*cause as &dyn std::error::Error, "store.retry");
                    let delay = delays.next().expect("the number of delays is not limited");
                    let wait = tokio::time::sleep_until(give_up_at.min(Instant::now() + delay));
                    stop.run_until_cancelled(wait).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Folds a session's whole log into `transcript`, a page at a time.
pub(crate) async fn fold(
    store: &dyn Store,
    hold: &Hold,
    mut transcript: Transcript,
) -> Result<Transcript, StoreError> {
    for_each_event(store, hold, Seq::ZERO, |event| transcript.apply(&event)).await?;
    Ok(transcript)
}

/// Visits the events after `after` to the end of the log, oldest first, a page at a time.
pub(crate) async fn for_each_event(
    store: &dyn Store,
    hold: &Hold,
    after: Seq,
    mut visit: impl FnMut(Event) + Send,
) -> Result<(), StoreError> {
    // After a restart many sessions are opened at once, each with a page in memory.
    const PAGE_EVENTS: u32 = 100;
    let mut after = after;
    loop {
        let page = store
            .read(&hold.user_id, &hold.session_id, after, PAGE_EVENTS)
            .await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.seq;
        page.into_iter().for_each(&mut visit);
    }
}
