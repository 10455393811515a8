//! How a function is called over HTTP.
//!
//! A call is one request over a connection that is kept. When its outcome stays unknown it is
//! repeated within the time of the one call. An interface that asks for a pause gets it from all
//! calls together.

use std::{sync::Mutex, time::Duration};

use duologue_engine::lock::lock;
use reqwest::{Client, Request, Response, redirect, retry};
use serde::de::DeserializeOwned;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    failure::{Refusal, RestFailure},
    target::Target,
};
use crate::{
    OpenError, StoreConfig,
    functions::{Call, CallFailure, FunctionCaller, Lane, repeat},
};

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
pub(crate) struct RestCaller {
    client: Client,
    target: Target,
    places: Semaphore,
    places_max: u32,
    acquire_timeout: Duration,
    call_timeout: Duration,
    /// Nobody calls before.
    paused_until: Mutex<Instant>,
}

impl RestCaller {
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

    /// The same as [`FunctionCaller::call`], for callers to whom the cause matters.
    pub(super) async fn try_call<T: DeserializeOwned>(
        &self,
        call: &Call,
    ) -> Result<T, RestFailure> {
        let place = match call.lane {
            Lane::Writer => None,
            Lane::Shared | Lane::Long => {
                let place = timeout(self.acquire_timeout, self.places.acquire()).await;
                let Ok(Ok(place)) = place else {
                    return Err(RestFailure::Busy);
                };
                Some(place)
            }
        };
        let deadline = Instant::now() + self.call_timeout;
        let request = self.request(call);
        let attempt = || self.attempt(&request, deadline);
        let answer = repeat(call.repetition, deadline, attempt).await;
        drop(place);
        answer
    }

    fn request(&self, call: &Call) -> Request {
        let request = self.client.post(self.target.url(call.function));
        let request = request
            .headers(self.target.headers().clone())
            .body(call.arguments_json());
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
}

impl FunctionCaller for RestCaller {
    async fn call<T>(&self, call: &Call) -> Result<T, CallFailure>
    where
        T: DeserializeOwned + Send,
    {
        self.try_call(call)
            .await
            .map_err(|failure| CallFailure::of(failure, call.repetition))
    }

    async fn close(&self) {
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
