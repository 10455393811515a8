//! The provider: one HTTP request per answer.

mod check;

use std::sync::Arc;

use duologue_engine::provider::{Chunk, Provider, ProviderError, Request};
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use reqwest::{
    Client, RequestBuilder, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect, retry,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant, timeout, timeout_at},
};

use crate::{
    answer::{self, AnswerError, StreamedAnswer},
    config::{ConfigError, OpenAiConfig, is_loopback},
    failure,
    wire::request::ChatRequest,
};

pub use self::check::{CheckError, ModelCheck};

/// How much of the body of an error is read, and for how long. The status has said the essential.
const ERROR_BYTES_MAX: usize = 64 * 1024;
const ERROR_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the count of tokens and `[DONE]` may take once the model has said all. They come at
/// once or not at all, and a complete answer should not wait for what never comes.
const TRAILER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the end of the response may take after `[DONE]`. It is worth a little patience: only a
/// response that was read to its end leaves its connection to the next request.
const END_TIMEOUT: Duration = Duration::from_millis(50);

/// A model behind an endpoint that speaks OpenAI's chat completions.
///
/// The process must have chosen its TLS implementation before the first one is made
/// (`rustls::crypto::aws_lc_rs::default_provider().install_default()`), or [`OpenAi::new`] panics.
///
/// Redirects are not followed, since they would take the key elsewhere. A proxy is used where the
/// system says so, but never for this machine itself.
#[derive(Clone, Debug)]
pub struct OpenAi {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: OpenAiConfig,
    client: Client,
    /// The request for an answer, without its body.
    request: reqwest::Request,
    authorization: Option<HeaderValue>,
    /// A permit for each answer that may be on its way.
    connections: Arc<Semaphore>,
}

impl OpenAi {
    /// Checks the configuration. Connects to nothing yet.
    pub fn new(config: OpenAiConfig) -> Result<Self, ConfigError> {
        let url = config.url()?;
        let authorization = config.authorization()?;
        let mut client = Client::builder()
            .user_agent(concat!("duologue/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(config.connect_timeout)
            .pool_max_idle_per_host(config.idle_connections_max.into())
            .redirect(redirect::Policy::none())
            // The engine decides what is tried again.
            .retry(retry::never());
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(ConfigError::Client)?;
        let post = authorized(client.post(url), authorization.as_ref())
            .header(ACCEPT, "text/event-stream, application/json")
            .header(CONTENT_TYPE, "application/json");
        let connections = usize::from(config.connections_max);
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                request: post.build().map_err(ConfigError::Client)?,
                client,
                authorization,
                connections: Arc::new(Semaphore::new(connections)),
            }),
        })
    }
}

impl Provider for OpenAi {
    fn model(&self) -> &str {
        &self.inner.config.model
    }

    fn calls_tools(&self) -> bool {
        true
    }

    fn generate(&self, request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        let inner = Arc::clone(&self.inner);
        stream::once(async move { inner.ask(&request).await })
            .try_flatten()
            .boxed()
    }
}

impl Inner {
    /// Sends the request, and reads the head of the response.
    async fn ask(
        self: Arc<Self>,
        request: &Request,
    ) -> Result<BoxStream<'static, Result<Chunk, ProviderError>>, ProviderError> {
        let permit = Arc::clone(&self.connections).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let response = self.client.execute(self.post(request)).await;
        let response = response.map_err(unavailable)?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        if is_json(&response) {
            return self.read_whole(response).await;
        }
        let reading = Reading {
            answer: StreamedAnswer::new(self.config.sse_line_bytes_max as usize),
            endpoint: self,
            response: Some(response),
            _permit: permit,
            failure: None,
            trailer_deadline: None,
        };
        let chunks = stream::unfold(reading, |mut reading| async {
            let item = reading.next().await?;
            Some((item, reading))
        });
        Ok(chunks.boxed())
    }

    /// The HTTP request for an answer.
    fn post(&self, request: &Request) -> reqwest::Request {
        let body = serde_json::to_vec(&ChatRequest::new(request, &self.config));
        let mut post = self.request.try_clone().expect("it has no body");
        *post.body_mut() = Some(body.expect("every request can be written as JSON").into());
        post
    }

    /// Reads an answer that came as a whole, from an endpoint that does not stream.
    async fn read_whole(
        &self,
        mut response: Response,
    ) -> Result<BoxStream<'static, Result<Chunk, ProviderError>>, ProviderError> {
        let mut body = Vec::new();
        read(
            &mut response,
            &mut body,
            self.config.sse_line_bytes_max as usize,
        )
        .await
        .map_err(unavailable)?;
        let chunks = answer::read_whole(&body).map_err(|error| self.failure(error))?;
        Ok(stream::iter(chunks.into_iter().map(Ok)).boxed())
    }

    /// What a response without an answer means.
    async fn refusal(&self, mut response: Response) -> ProviderError {
        let mut body = Vec::new();
        let reading = read(&mut response, &mut body, ERROR_BYTES_MAX);
        // Whatever keeps the rest of the body away, what the status says still holds.
        drop(timeout(ERROR_TIMEOUT, reading).await);
        failure::of_response(
            response.status(),
            response.headers(),
            &body,
            &self.config.api_key,
        )
    }

    fn failure(&self, error: AnswerError) -> ProviderError {
        match error {
            AnswerError::Reported(error) => failure::of_event(&error, &self.config.api_key),
            other => ProviderError::Unavailable(other.into()),
        }
    }
}

/// An answer on its way. Dropping it closes the connection.
struct Reading {
    endpoint: Arc<Inner>,
    answer: StreamedAnswer,
    /// None once it has ended, or is of no more use.
    response: Option<Response>,
    /// What is passed on when all that came before it has been.
    failure: Option<ProviderError>,
    _permit: OwnedSemaphorePermit,
    /// When the answer is taken as it is; known once the model has said all.
    trailer_deadline: Option<Instant>,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Chunk, ProviderError>> {
        loop {
            if let Some(chunk) = self.answer.next_chunk() {
                if matches!(chunk, Chunk::Finished { .. }) {
                    self.release_connection().await;
                }
                return Some(Ok(chunk));
            }
            if self.response.is_none() {
                return self.failure.take().map(Err);
            }
            if let Err(failure) = self.read().await {
                self.failure = Some(failure);
                self.response = None;
            }
        }
    }

    /// Reads what the connection brings next.
    async fn read(&mut self) -> Result<(), ProviderError> {
        let Some(response) = &mut self.response else {
            return Ok(());
        };
        let next = if self.answer.is_complete() {
            let deadline = self
                .trailer_deadline
                .get_or_insert_with(|| Instant::now() + TRAILER_TIMEOUT);
            timeout_at(*deadline, response.chunk())
                .await
                .unwrap_or(Ok(None))
        } else {
            response.chunk().await
        };
        let broken = match next {
            Ok(Some(bytes)) => {
                let taken = self.answer.bytes(&bytes);
                return taken.map_err(|error| self.endpoint.failure(error));
            }
            Ok(None) => None,
            Err(broken) => Some(broken),
        };
        self.response = None;
        match (self.answer.end(), broken) {
            (Ok(()), _) => Ok(()),
            (Err(AnswerError::BrokeOff), Some(broken)) => Err(unavailable(broken)),
            (Err(error), _) => Err(self.endpoint.failure(error)),
        }
    }

    /// Reads the end of the response, which is due, so that the connection can be used again.
    async fn release_connection(&mut self) {
        let Some(mut response) = self.response.take() else {
            return;
        };
        let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
        // If the end does not come, the connection is closed; nothing else depends on it.
        drop(timeout(END_TIMEOUT, rest).await);
    }
}

/// Shows the key, if there is one.
fn authorized(request: RequestBuilder, authorization: Option<&HeaderValue>) -> RequestBuilder {
    match authorization {
        Some(authorization) => request.header(AUTHORIZATION, authorization),
        None => request,
    }
}

/// Appends the body to `into`, up to `bytes_max` in all.
async fn read(
    response: &mut Response,
    into: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), reqwest::Error> {
    while into.len() < bytes_max
        && let Some(bytes) = response.chunk().await?
    {
        let room = bytes_max - into.len();
        into.extend_from_slice(&bytes[..room.min(bytes.len())]);
    }
    Ok(())
}

fn is_json(response: &Response) -> bool {
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    content_type
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("application/json")
}

/// The connection could not be made, or broke. The URL is left out, for it may hold a key.
fn unavailable(error: reqwest::Error) -> ProviderError {
    ProviderError::Unavailable(error.without_url().into())
}
