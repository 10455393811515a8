//! How a function is called over HTTP.
//!
//! A call is one request over a connection that is kept. When its outcome stays unknown it is
//! repeated, at most [`REPETITIONS_MAX`] times and within the time of the one call: the contract
//! makes that harmless, and a caller that can wait longer calls again. An interface that asks for a
//! pause gets it from all calls together.

use std::{fmt::Write as _, sync::Mutex, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use duologue_engine::{
    lock::lock,
    store::{Job, Lease, StoreError},
};
use reqwest::{Client, Request, Response, redirect, retry};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    failure::{Refusal, RestFailure},
    target::Target,
};
use crate::{OpenError, StoreConfig, functions::attempt};

/// How often a call is repeated within its time.
const REPETITIONS_MAX: usize = 2;

/// The wait before the first repetition, doubled for the second, each with jitter.
const REPETITION_DELAY: Duration = Duration::from_millis(50);

/// What the answer may take on top of what the database may take, before we hang up.
const NETWORK_ALLOWANCE: Duration = Duration::from_secs(1);

/// How long a connection may take to come about: within the time of one call, with room for another.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an unused connection is kept. Gateways hang up after a minute or more; one that we meet
/// just then costs a repetition.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The largest answer, in bytes. Pages of a log are made smaller until they fit.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How much of an answer without success is read, in bytes: the status has said the essential.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// The longest pause that the interface may ask for. Nobody's session waits longer than that for a
/// store anyway.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Calls functions, a limited number at a time.
pub(super) struct RestCalls {
    client: Client,
    target: Target,
    places: Semaphore,
    places_max: u32,
    acquire_timeout: Duration,
    call_timeout: Duration,
    /// Nobody calls before.
    paused_until: Mutex<Instant>,
}

/// What happens if a call is made again that was carried out unnoticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// Nothing.
    Harmless,
    /// It takes the next jobs or sessions, and the first ones lie idle until their lease expires.
    TakesMore,
}

/// A call in the making.
pub(super) struct Call {
    function: &'static str,
    repetition: Repetition,
    /// A JSON object that lacks its closing brace.
    arguments: String,
}

impl Call {
    pub(super) fn new(function: &'static str, repetition: Repetition) -> Self {
        Self {
            function,
            repetition,
            arguments: "{".to_owned(),
        }
    }

    pub(super) fn with(self, name: &str, value: impl Serialize) -> Self {
        let json = serde_json::to_string(&value).expect("texts and numbers can be written");
        self.with_json(name, &json)
    }

    /// Adds an argument that is JSON already.
    pub(super) fn with_json(mut self, name: &str, json: &str) -> Self {
        let comma = if self.arguments.len() > 1 { "," } else { "" };
        write!(self.arguments, "{comma}\"{name}\":{json}").expect("a string takes everything");
        self
    }

    /// A write by the holder of a session.
    pub(super) fn under(function: &'static str, lease: &Lease) -> Self {
        Self::new(function, Repetition::Harmless)
            .with("for_session", &lease.session_id)
            .with("for_user", &lease.user_id)
            .with("by_server", &lease.server.0)
            .with("at_epoch", lease.epoch)
    }

    /// A write by the worker of a job.
    pub(super) fn of(function: &'static str, job: &Job) -> Self {
        Self::new(function, Repetition::Harmless)
            .with("of_job", job.id)
            .with("by_worker", &job.worker.0)
            .with("at_attempt", attempt(job))
    }

    /// Asks for the version of the tables.
    pub(super) fn version() -> Self {
        Self::new("duologue_version", Repetition::Harmless)
    }
}

impl RestCalls {
    /// Connects to nothing yet.
    pub(super) fn new(target: Target, config: &StoreConfig) -> Result<Self, OpenError> {
        let connections_max = config.connections_max.get();
        let mut client = Client::builder()
            .user_agent(concat!("duologue/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(connections_max.into())
            // It would take the key elsewhere.
            .redirect(redirect::Policy::none())
            // What may be repeated is decided here.
            .retry(retry::never());
        if target.is_loopback() {
            client = client.no_proxy();
        }
        Ok(Self {
            client: client.build().map_err(OpenError::HttpClient)?,
            target,
            places: Semaphore::new(connections_max.into()),
            places_max: connections_max.into(),
            acquire_timeout: config.acquire_timeout,
            call_timeout: config.statement_timeout + NETWORK_ALLOWANCE,
            paused_until: Mutex::new(Instant::now()),
        })
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Calls a function and reads its answer. SQL's null is JSON's.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: Call) -> Result<T, StoreError> {
        Ok(self.try_call(call).await?)
    }

    /// The same, for callers to whom the cause matters.
    pub(super) async fn try_call<T: DeserializeOwned>(&self, call: Call) -> Result<T, RestFailure> {
        let place = timeout(self.acquire_timeout, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(RestFailure::Busy);
        };
        let deadline = Instant::now() + self.call_timeout;
        let mut delays = ExponentialBuilder::default()
            .with_min_delay(REPETITION_DELAY)
            .with_max_times(REPETITIONS_MAX)
            .with_jitter()
            .build();
        let repetition = call.repetition;
        let request = self.request(call);
        loop {
            let failure = match self.attempt(&request, deadline).await {
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

    fn request(&self, call: Call) -> Request {
        let request = self.client.post(self.target.url(call.function));
        let request = request
            .headers(self.target.headers().clone())
            .body(call.arguments + "}");
        request.build().expect("its parts have been checked")
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        request: &Request,
        deadline: Instant,
    ) -> Result<T, RestFailure> {
        self.wait_for_pause(deadline).await?;
        let request = request.try_clone().expect("its body is in memory");
        let answering = async {
            let response = self.client.execute(request).await;
            let response = response.map_err(RestFailure::of_transport)?;
            if response.status().is_success() {
                let body = read(response, ANSWER_BYTES_MAX).await?;
                return serde_json::from_slice(&body).map_err(RestFailure::of_answer);
            }
            Err(RestFailure::Refused(self.refusal(response).await))
        };
        let answer = timeout_at(deadline, answering).await;
        answer.unwrap_or(Err(RestFailure::TimedOut))
    }

    async fn refusal(&self, response: Response) -> Refusal {
        let (status, headers) = (response.status(), response.headers().clone());
        // Whatever keeps the body away, what the status says still holds.
        let body = read(response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
        let refusal = Refusal::read(status, &headers, &body);
        if let Some(pause) = refusal.retry_after {
            let until = Instant::now() + pause.min(PAUSE_MAX);
            let mut paused_until = self.lock_pause();
            *paused_until = until.max(*paused_until);
        }
        refusal
    }

    async fn wait_for_pause(&self, deadline: Instant) -> Result<(), RestFailure> {
        let until = *self.lock_pause();
        let now = Instant::now();
        if until <= now {
            return Ok(());
        }
        if until >= deadline {
            return Err(RestFailure::Paused(until - now));
        }
        sleep_until(until).await;
        Ok(())
    }

    fn lock_pause(&self) -> std::sync::MutexGuard<'_, Instant> {
        lock(&self.paused_until)
    }

    /// Waits for the calls that are under way, and takes no more.
    pub(super) async fn close(&self) {
        drop(self.places.acquire_many(self.places_max).await);
        self.places.close();
    }
}

/// Reads a body that has at most `bytes_max`.
async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, RestFailure> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(RestFailure::Lost)? {
        if body.len() + chunk.len() > bytes_max {
            return Err(RestFailure::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
