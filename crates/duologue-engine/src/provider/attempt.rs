//! One answer, in as many attempts as it takes: the limits of time, and the retries, that hold for
//! every provider.
//!
//! ```text
//! request ──▶ attempt ──▶ first chunk ──▶ … ──▶ Finished
//!    ▲           │ fails       └─ from here on, an error is passed on
//!    └── wait ◀──┘
//! ```
//!
//! Invariants:
//!
//! * Nothing is tried again once a chunk was passed on: what the user has seen stays true.
//! * The upstream connection is closed before the wait for the next attempt, and as soon as the
//!   answer is over.
//! * However often it is tried, it is over within `total_timeout`.

use std::{error::Error, sync::Arc};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::time::{Duration, Instant, sleep};
use tracing::warn;

use crate::{
    limits::GenerationLimits,
    provider::{Chunk, Provider, ProviderError, Request},
    rearmed_timer::RearmedTimer,
};

/// Asks `provider` for an answer within `limits`.
///
/// The stream ends with [`Chunk::Finished`] or with an error, and never holds [`Chunk::Progress`].
/// The clock starts with its first poll. Time that the caller takes between two polls counts for
/// `total_timeout` only.
pub fn generate(
    provider: Arc<dyn Provider>,
    request: Request,
    limits: GenerationLimits,
) -> BoxStream<'static, Result<Chunk, ProviderError>> {
    let generation = Generation::new(provider, request, limits);
    stream::unfold(generation, |mut generation| async {
        let item = generation.next().await?;
        Some((item, generation))
    })
    .boxed()
}

struct Generation {
    provider: Arc<dyn Provider>,
    request: Request,
    limits: GenerationLimits,
    /// The waits that are left, one for each attempt that may follow.
    waits: ExponentialBackoff,
    /// When all must be over; known from the first poll on.
    deadline: Option<Instant>,
    stage: Stage,
    /// The running attempt's stream. Dropping it closes the upstream connection.
    answer: Option<BoxStream<'static, Result<Chunk, ProviderError>>>,
    timer: RearmedTimer,
}

/// How far the answer has come. It never goes back, except to `Silent` for another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Nothing has come.
    Silent,
    /// The model works, but nothing was passed on.
    Working,
    /// Part of the answer was passed on.
    Shown,
    /// Nothing follows.
    Over,
}

impl Generation {
    fn new(provider: Arc<dyn Provider>, request: Request, limits: GenerationLimits) -> Self {
        let waits = ExponentialBuilder::new()
            .with_min_delay(limits.retry_delay)
            .without_max_delay()
            .with_max_times(usize::from(limits.retries_max))
            .with_jitter()
            .build();
        Self {
            provider,
            request,
            limits,
            waits,
            deadline: None,
            stage: Stage::Silent,
            answer: None,
            timer: RearmedTimer::default(),
        }
    }

    async fn next(&mut self) -> Option<Result<Chunk, ProviderError>> {
        let total = self.limits.total_timeout;
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + total);
        while self.stage < Stage::Over {
            match self.next_chunk(deadline).await {
                Ok(Chunk::Progress) => self.stage = self.stage.max(Stage::Working),
                Ok(chunk) => {
                    self.stage = Stage::Shown;
                    if matches!(chunk, Chunk::Finished { .. }) {
                        self.end();
                    }
                    return Some(Ok(chunk));
                }
                Err(error) => {
                    let Some(wait) = self.wait_before_retry(&error, deadline) else {
                        self.end();
                        return Some(Err(error));
                    };
                    self.wait(wait, &error).await;
                }
            }
        }
        None
    }

    async fn next_chunk(&mut self, deadline: Instant) -> Result<Chunk, ProviderError> {
        let now = Instant::now();
        // An answer that is always ready would never be found late by a timer alone.
        if now >= deadline {
            return Err(ProviderError::TimedOut);
        }
        let limit = match self.stage {
            Stage::Silent => self.limits.first_token_timeout,
            Stage::Working | Stage::Shown | Stage::Over => self.limits.next_token_timeout,
        };
        let answer = self
            .answer
            .get_or_insert_with(|| self.provider.generate(self.request.clone()));
        tokio::select! {
            biased;
            item = answer.next() => item.unwrap_or_else(|| {
                let cause = "the answer ended without saying why".into();
                Err(ProviderError::Unavailable(cause))
            }),
            () = self.timer.wait_until(deadline.min(now + limit)) => Err(ProviderError::TimedOut),
        }
    }

    /// How long to wait before another attempt; none if there may not be one.
    fn wait_before_retry(&mut self, error: &ProviderError, deadline: Instant) -> Option<Duration> {
        if self.stage >= Stage::Shown {
            return None;
        }
        let asked = match error {
            ProviderError::Refused(_) => return None,
            ProviderError::Unavailable(_) | ProviderError::TimedOut => Duration::ZERO,
            ProviderError::RateLimited { retry_after } => retry_after.unwrap_or_default(),
        };
        if asked > self.limits.retry_after_max {
            return None;
        }
        // Everyone who was refused at the same moment received the same time. The jittered wait on top of it
        // keeps them from coming back together.
        let wait = asked + self.waits.next()?;
        (Instant::now() + wait < deadline).then_some(wait)
    }

    async fn wait(&mut self, wait: Duration, error: &ProviderError) {
        warn!(
            model = self.provider.model(),
            wait_ms = wait.as_millis(),
            error = error as &(dyn Error + 'static),
            "asking the model again"
        );
        self.answer = None;
        self.stage = Stage::Silent;
        sleep(wait).await;
    }

    fn end(&mut self) {
        self.answer = None;
        self.stage = Stage::Over;
    }
}
