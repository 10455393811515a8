//! A call of a SQL function, whatever stands between the server and the database.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use duologue_engine::{BoxError, store::StoreError};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep_until};

/// How often a call is repeated within its time.
const REPETITIONS_MAX: usize = 2;

/// The delay before the first repetition, doubled for the second, each with jitter.
const REPETITION_DELAY: Duration = Duration::from_millis(50);

/// Calls SQL functions. A call that the caller stops polling is aborted or completed by the database, and
/// leaves no open transaction.
pub(crate) trait FunctionCaller: Send + Sync + 'static {
    /// Calls a function, and repeats the call if that is allowed and may help (see [`repeat`]). Reads the answer
    /// as JSON; SQL's null is JSON's.
    fn call<T>(&self, call: &Call) -> impl Future<Output = Result<T, CallFailure>> + Send
    where
        T: DeserializeOwned + Send;

    /// Waits for the calls in progress, and accepts no more.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A function and its arguments.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) function: &'static str,
    pub(crate) arguments: Vec<(&'static str, Argument)>,
    pub(crate) repetition: Repetition,
    pub(crate) lane: Lane,
}

/// What a function is called with.
#[derive(Debug)]
pub(crate) enum Argument {
    /// Text, or what SQL reads from text, such as a time.
    Text(String),
    /// A document.
    Json(String),
    /// A number, a truth value or null, as JSON.
    Plain(String),
}

/// What happens if a call is repeated that was carried out although its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    /// Nothing.
    Harmless,
    /// It takes the next jobs or sessions, and the first ones are idle until their lease expires.
    TakesMore,
}

/// Which connection and which time limits a call gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// One of a bounded number of connections.
    Shared,
    /// A connection at once: there is only one writer, and it bounds its calls itself.
    Writer,
    /// As [`Lane::Shared`], for a call that may change every row.
    Long,
}

/// Why a call failed, by what the store does next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallFailure {
    /// The database is not available, or was too slow. The same call may succeed later.
    #[error("the database is not available")]
    Unavailable(#[source] BoxError),
    /// The same, of a call that must not be repeated ([`Repetition::TakesMore`]) and may have been carried out.
    #[error("the answer of the database was lost")]
    Lost(#[source] BoxError),
    /// The answer is larger than what is accepted.
    #[error("the answer of the database is too large")]
    TooLarge(#[source] BoxError),
    /// The database rejects this call, or its answer cannot be read. It never succeeds.
    #[error("the database rejects the call")]
    Rejected(#[source] BoxError),
}

/// What a failure says about its call: what the repetition depends on, and what the store does next.
pub(crate) trait Failure: std::error::Error + Send + Sync + 'static {
    /// Whether it is certain that the call had no effect.
    fn is_without_effect(&self) -> bool;

    /// Whether an immediate repetition is likely to succeed.
    fn is_brief(&self) -> bool;

    /// Whether the same call may succeed later.
    fn may_pass(&self) -> bool;

    /// Whether the answer is larger than what is accepted.
    fn is_too_large(&self) -> bool {
        false
    }
}

impl Call {
    pub(crate) fn new(function: &'static str) -> Self {
        Self {
            function,
            arguments: Vec::new(),
            repetition: Repetition::Harmless,
            lane: Lane::Shared,
        }
    }

    /// The version of the tables.
    pub(crate) fn version() -> Self {
        Self::new("duologue_version")
    }

    /// The check for a restore from a backup.
    pub(crate) fn check_origin() -> Self {
        Self::new("duologue_check_origin").on(Lane::Long)
    }

    pub(crate) fn takes_more(mut self) -> Self {
        self.repetition = Repetition::TakesMore;
        self
    }

    pub(crate) fn on(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    pub(crate) fn text(self, name: &'static str, text: impl Into<String>) -> Self {
        self.with(name, Argument::Text(text.into()))
    }

    /// A number, a truth value or null.
    pub(crate) fn plain(self, name: &'static str, value: impl Serialize) -> Self {
        self.with(name, Argument::Plain(json(&value)))
    }

    pub(crate) fn json(self, name: &'static str, document: String) -> Self {
        self.with(name, Argument::Json(document))
    }

    fn with(mut self, name: &'static str, argument: Argument) -> Self {
        self.arguments.push((name, argument));
        self
    }

    /// The arguments as one JSON object.
    pub(crate) fn arguments_json(&self) -> String {
        let object = self.arguments.iter();
        let object = object.fold(
            JsonObject::new(),
            |object, (name, argument)| match argument {
                Argument::Text(text) => object.with(name, text),
                Argument::Json(json) | Argument::Plain(json) => object.with_json(name, json),
            },
        );
        object.finish()
    }
}

/// A JSON object in progress.
pub(super) struct JsonObject(String);

impl JsonObject {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    pub(super) fn with(self, name: &str, value: impl Serialize) -> Self {
        let json = json(&value);
        self.with_json(name, &json)
    }

    /// Adds a value that is JSON already.
    pub(super) fn with_json(mut self, name: &str, json: &str) -> Self {
        let comma = if self.0.len() > 1 { "," } else { "" };
        write!(self.0, "{comma}\"{name}\":{json}").expect("a string accepts everything");
        self
    }

    pub(super) fn finish(self) -> String {
        self.0 + "}"
    }
}

/// A value as JSON.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers can be written")
}

impl From<CallFailure> for StoreError {
    fn from(failure: CallFailure) -> Self {
        match failure {
            CallFailure::Unavailable(cause) | CallFailure::Lost(cause) => Self::Unavailable(cause),
            CallFailure::TooLarge(cause) | CallFailure::Rejected(cause) => Self::Corrupt(cause),
        }
    }
}

impl CallFailure {
    /// What the store does next about a call that failed for good.
    pub(crate) fn of(failure: impl Failure, repetition: Repetition) -> Self {
        if failure.is_too_large() {
            Self::TooLarge(failure.into())
        } else if !failure.may_pass() {
            Self::Rejected(failure.into())
        } else if repetition == Repetition::TakesMore
            && failure.is_brief()
            && !failure.is_without_effect()
        {
            Self::Lost(failure.into())
        } else {
            Self::Unavailable(failure.into())
        }
    }

    /// The error of one of several operations that share the call.
    pub(super) fn share(self: &Arc<Self>) -> StoreError {
        let cause = Arc::clone(self).into();
        match &**self {
            Self::Unavailable(_) | Self::Lost(_) => StoreError::Unavailable(cause),
            Self::TooLarge(_) | Self::Rejected(_) => StoreError::Corrupt(cause),
        }
    }
}

/// Calls `attempt` until it succeeds, fails for good, or has been repeated [`REPETITIONS_MAX`] times, and
/// not after `deadline`. The contract of the store makes a repetition harmless; a caller that can wait
/// longer calls again.
pub(crate) async fn repeat<T, F: Failure, A: Future<Output = Result<T, F>>>(
    repetition: Repetition,
    deadline: Instant,
    attempt: impl Fn() -> A,
) -> Result<T, F> {
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(REPETITION_DELAY)
        .with_max_times(REPETITIONS_MAX)
        .with_jitter()
        .build();
    loop {
        let failure = match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let may_repeat = repetition == Repetition::Harmless || failure.is_without_effect();
        match delays.next().map(|delay| Instant::now() + delay) {
            Some(at) if may_repeat && failure.is_brief() && at < deadline => {
                tracing::debug!(error = &failure as &dyn std::error::Error, "store.repeat");
                sleep_until(at).await;
            }
            _ => return Err(failure),
        }
    }
}
