//! What stands before PostgREST in a Supabase project: a gateway that checks keys and strips
//! `/rest/v1`. On top of that it fails on request.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use anyhow::{Context, Result};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use reqwest::Body;
use serde_json::json;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};

use crate::server::http;

/// What happens to one request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It is not passed on, and answered with this status.
    Status(u16),
    /// The same, with the wish to be left alone for so many seconds.
    RetryAfter(u16, u64),
    /// It is not passed on, and answered with what a gateway shows to people.
    Page(u16),
    /// It is carried out, and the connection closed without an answer.
    LostAnswer,
    /// It is carried out, and the connection closed in the middle of the answer.
    HalfAnswer,
    /// It is passed on only after so long.
    Delay(Duration),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// For example `/rest/v1/rpc/duologue_append`.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Which connection it came on, counted from 1.
    pub connection: usize,
}

/// A running gateway. It ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

/// Keys that are no tokens, and the tokens that they stand for.
pub(crate) type OpaqueKeys = Vec<(String, String)>;

#[derive(Debug)]
struct Shared {
    /// Where PostgREST is.
    upstream: String,
    opaque_keys: OpaqueKeys,
    client: reqwest::Client,
    state: Mutex<State>,
    seen: Notify,
}

#[derive(Debug, Default)]
struct State {
    faults: VecDeque<Fault>,
    seen: Vec<Seen>,
}

impl FaultProxy {
    /// Starts a gateway before the PostgREST at `upstream`.
    pub(crate) async fn start(upstream: String, opaque_keys: OpaqueKeys) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            upstream,
            opaque_keys,
            client: http(),
            state: Mutex::default(),
            seen: Notify::new(),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            port,
            shared,
            _accepting: accepting,
        })
    }

    /// The project's URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets the next requests fail, each in its way, and forgets those seen so far.
    pub fn will(&self, faults: impl IntoIterator<Item = Fault>) {
        let mut state = self.shared.lock();
        state.faults = faults.into_iter().collect();
        state.seen.clear();
    }

    /// The requests since [`will`](Self::will) was last called, or all.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics here")
    }

    /// Answers a request. An error closes its connection without an answer.
    async fn answer(
        &self,
        request: Request<Incoming>,
        connection: usize,
    ) -> Result<Response<Body>> {
        let fault = {
            let mut state = self.lock();
            state.seen.push(Seen {
                path: request.uri().path().to_owned(),
                headers: request.headers().clone(),
                connection,
            });
            state.faults.pop_front()
        };
        self.seen.notify_waiters();
        match fault {
            None => self.pass_on(request).await,
            Some(Fault::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.pass_on(request).await
            }
            Some(Fault::Status(status)) => refusal(status, "told to"),
            Some(Fault::RetryAfter(status, seconds)) => {
                let mut response = refusal(status, "too many requests")?;
                response.headers_mut().insert(RETRY_AFTER, seconds.into());
                Ok(response)
            }
            Some(Fault::Page(status)) => {
                let response = Response::builder().status(status);
                let page = "<html><body>something went wrong</body></html>";
                Ok(response
                    .header(CONTENT_TYPE, "text/html")
                    .body(page.into())?)
            }
            Some(Fault::LostAnswer) => {
                let response = self.pass_on(request).await?;
                anyhow::bail!("{} is lost", response.status())
            }
            Some(Fault::HalfAnswer) => {
                let (head, body) = self.pass_on(request).await?.into_parts();
                let body = Response::new(body);
                let whole = reqwest::Response::from(body).bytes().await?;
                Ok(Response::from_parts(head, half(&whole)))
            }
        }
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().context("a request has a path")?;
        let Some(path) = path.as_str().strip_prefix("/rest/v1") else {
            return refusal(404, "no such service");
        };
        let mut headers = head.headers;
        if let Some(status) = self.translate_key(&mut headers) {
            return refusal(status, "Invalid API key");
        }
        headers.remove(HOST);
        let url = format!("{}{path}", self.upstream);
        let request = self.client.request(head.method, url).headers(headers);
        let answer = request.body(Body::wrap(body)).send().await?;
        Ok(answer.into())
    }

    /// Puts the token in place that a key stands for, or says how to refuse the request.
    fn translate_key(&self, headers: &mut HeaderMap) -> Option<u16> {
        let Some(key) = headers.get("apikey").and_then(|key| key.to_str().ok()) else {
            return Some(401);
        };
        if !key.starts_with("sb_") {
            return None;
        }
        let Some((_, token)) = self.opaque_keys.iter().find(|(known, _)| known == key) else {
            return Some(401);
        };
        // A signed-in user shows their own token beside the project's key.
        let bearer = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok());
        if bearer.is_none_or(|bearer| bearer.strip_prefix("Bearer ") == Some(key)) {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            headers.insert(AUTHORIZATION, value.expect("a token is a header's value"));
        }
        None
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    for number in 1.. {
        let Ok((socket, _)) = listener.accept().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| {
                let shared = Arc::clone(&shared);
                async move {
                    shared
                        .answer(request, number)
                        .await
                        .map_err(io::Error::other)
                }
            });
            let serving = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
            // Whether it ended well is for the client to say.
            let _ = serving.await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// An answer of the gateway itself.
fn refusal(status: u16, message: &str) -> Result<Response<Body>> {
    let status = StatusCode::from_u16(status)?;
    let response = Response::builder().status(status);
    let body = json!({ "message": message }).to_string();
    Ok(response
        .header(CONTENT_TYPE, "application/json")
        .body(body.into())?)
}

/// A body that breaks off in its middle.
fn half(whole: &Bytes) -> Body {
    let first = Ok(whole.slice(..whole.len() / 2));
    let cut = Err(io::Error::other("the connection is cut"));
    Body::wrap_stream(futures_util::stream::iter([first, cut]))
}
