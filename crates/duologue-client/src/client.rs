//! The driver: a [`Session`] over as many connections as it takes.
//!
//! [`Client::next`] does everything. [`Client::connect`] and [`Client::next_incoming`] are its two halves,
//! for a caller that decides by itself when and where to reconnect.

use std::{fmt, future::Future, io, pin::Pin, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{
    self, Bytes, Message,
    client::IntoClientRequest,
    handshake::client::Request,
    http::{HeaderValue, header::AUTHORIZATION},
    protocol::CloseFrame,
};

use crate::{
    address::Address,
    connection::{Connection, Incoming, server_of},
    loss::Loss,
    outbox::MessageTooBig,
    refusal::Refusal,
    session::{NextStep, Received, Session, SessionOptions},
    transport::{Tcp, TokenSource, Transport},
};

#[cfg(test)]
mod tests;

/// How a client uses its connections.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The rules for the session.
    pub session: SessionOptions,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// After so long without anything from the server it is pinged; if as long again nothing comes, the
    /// connection counts as lost.
    pub keep_alive: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            session: SessionOptions::default(),
            connect_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(20),
        }
    }
}

/// Something that a client has to tell.
#[derive(Debug)]
pub enum Update {
    /// A frame of the server.
    Frame(Received),
    /// There is no connection. The client reconnects by itself.
    Disconnected {
        /// Why.
        loss: Loss,
        /// When it tries again.
        retry_at: Instant,
    },
    /// The log that was known is gone, for example because a backup was restored. All that was received of
    /// the session should be dropped; the log is replayed from its start.
    HistoryLost,
    /// The message with this id was given up: each connection over which it was sent was lost.
    Abandoned(String),
    /// This message was not sent: it is larger than the server accepts.
    TooBig(MessageTooBig),
}

/// Something that came in, for a caller that drives the connection by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Activity {
    /// A frame.
    Frame(Received),
    /// A ping or pong: the server is there.
    Control,
}

/// A lost connection or a failed attempt.
#[derive(Debug)]
pub struct Lost {
    /// Why.
    pub loss: Loss,
    /// What the protocol says to do next.
    pub next: NextStep,
}

/// Why a client has given up. The texts are for people.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The first attempt found no server, or one that cannot serve the session now.
    #[error("{server} cannot be reached: {loss}")]
    Unreachable {
        /// The server's URL.
        server: String,
        /// What happened.
        loss: Loss,
    },
    /// Reconnecting would not help, or was tried often enough.
    #[error("{0}")]
    GaveUp(#[source] Loss),
}

type Connecting<S> = Pin<Box<dyn Future<Output = Result<Connection<S>, Loss>> + Send>>;

enum Stage<S> {
    Idle,
    Waiting { until: Instant },
    Connecting(Connecting<S>),
    Open(Box<Open<S>>),
    Over,
}

struct Open<S> {
    connection: Connection<S>,
    /// When something came last.
    heard_at: Instant,
    /// When the server was pinged, if nothing came since.
    pinged_at: Option<Instant>,
}

/// A client of one session.
pub struct Client<T: Transport = Tcp> {
    address: Address,
    transport: T,
    tokens: Option<Box<dyn TokenSource>>,
    last_token: Option<SecretString>,
    connect_timeout: Duration,
    keep_alive: Duration,
    session: Session,
    stage: Stage<T::Stream>,
    was_connected: bool,
    is_leaving: bool,
}

impl Client {
    /// A client over TCP. It connects with the first call of [`next`](Self::next).
    pub fn new(address: Address, options: ClientOptions) -> Self {
        Self::over(Tcp, address, options)
    }
}

impl<T: Transport> Client<T> {
    /// A client over another transport.
    pub fn over(transport: T, address: Address, options: ClientOptions) -> Self {
        Self {
            address,
            transport,
            tokens: None,
            last_token: None,
            connect_timeout: options.connect_timeout,
            keep_alive: options.keep_alive,
            session: Session::new(options.session),
            stage: Stage::Idle,
            was_connected: false,
            is_leaving: false,
        }
    }

    /// Authenticates by tokens from `tokens`.
    pub fn with_tokens(mut self, tokens: impl TokenSource + 'static) -> Self {
        self.tokens = Some(Box::new(tokens));
        self
    }

    /// The state of the session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The state of the session, to give it messages. What is given is sent by [`next`](Self::next).
    pub fn session_mut(&mut self) -> &mut Session {
        &mut self.session
    }

    /// The address that connections go to.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// From now on connects to another address of the same session, for example of another server.
    pub fn set_address(&mut self, address: Address) {
        self.address = address;
    }

    /// Gives a message to be sent, and sent again until its receipt. Returns its id.
    pub fn send(&mut self, text: impl Into<String>) -> String {
        self.session.message(text)
    }

    /// Stops the running answer.
    pub fn cancel(&mut self) {
        self.session.cancel();
    }

    /// Leaves: closes with 1000, which ends the session for all its readers. [`next`](Self::next) returns
    /// what still comes, then `None`.
    pub fn leave(&mut self) {
        self.is_leaving = true;
        match &mut self.stage {
            Stage::Open(open) => open.connection.queue(Message::Close(Some(CloseFrame {
                code: 1000.into(),
                reason: "done".into(),
            }))),
            stage => *stage = Stage::Over,
        }
    }

    /// What happens next, over as many connections as it takes. `None`: the session has ended, or the client
    /// has left. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Update>, ClientError> {
        loop {
            if let Some(id) = self.session.next_abandoned() {
                return Ok(Some(Update::Abandoned(id)));
            }
            if let Some(too_big) = self.session.next_too_big() {
                return Ok(Some(Update::TooBig(too_big)));
            }
            match &mut self.stage {
                Stage::Over => return Ok(None),
                Stage::Waiting { until } => {
                    sleep_until(*until).await;
                    self.stage = Stage::Idle;
                }
                Stage::Idle | Stage::Connecting(_) => {
                    if let Err(lost) = self.connect().await {
                        return self.recover(lost);
                    }
                }
                Stage::Open(_) => match self.next_incoming().await {
                    Ok(Activity::Control) => {}
                    Ok(Activity::Frame(_)) if self.session.is_history_lost() => {
                        self.disconnect();
                        self.session.forget_history();
                        return Ok(Some(Update::HistoryLost));
                    }
                    Ok(Activity::Frame(received)) => return Ok(Some(Update::Frame(received))),
                    Err(lost) => return self.recover(lost),
                },
            }
        }
    }

    /// Turns a loss into the next stage.
    fn recover(&mut self, lost: Lost) -> Result<Option<Update>, ClientError> {
        let Lost { loss, next } = lost;
        let next = match next {
            _ if self.is_leaving => NextStep::Finish,
            NextStep::Reauthenticate { at } if self.has_another_token() => {
                NextStep::Reconnect { at }
            }
            other => other,
        };
        match next {
            NextStep::Finish => {
                self.stage = Stage::Over;
                Ok(None)
            }
            NextStep::Reconnect { at } if self.was_connected => {
                self.stage = Stage::Waiting { until: at };
                Ok(Some(Update::Disconnected { loss, retry_at: at }))
            }
            NextStep::Reconnect { .. } => {
                self.stage = Stage::Over;
                let server = self.address.server().to_owned();
                Err(ClientError::Unreachable { server, loss })
            }
            NextStep::GiveUp | NextStep::Reauthenticate { .. } => {
                self.stage = Stage::Over;
                Err(ClientError::GaveUp(loss))
            }
        }
    }

    fn has_another_token(&mut self) -> bool {
        let Some(Ok(Some(token))) = self.tokens.as_mut().map(|tokens| tokens.token()) else {
            return false;
        };
        !is_same(Some(&token), self.last_token.as_ref())
    }

    /// Whether a connection is open.
    pub fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Makes one attempt to connect, and resumes at the session's position. Cancel safe: called again, it
    /// continues the attempt.
    pub async fn connect(&mut self) -> Result<(), Lost> {
        if matches!(
            self.stage,
            Stage::Idle | Stage::Waiting { .. } | Stage::Over
        ) {
            match self.start_connecting() {
                Ok(connecting) => self.stage = Stage::Connecting(connecting),
                Err(loss) => return Err(self.lost(loss)),
            }
        }
        let Stage::Connecting(connecting) = &mut self.stage else {
            return Ok(());
        };
        match connecting.await {
            Ok(connection) => {
                self.was_connected = true;
                self.stage = Stage::Open(Box::new(Open {
                    connection,
                    heard_at: Instant::now(),
                    pinged_at: None,
                }));
                Ok(())
            }
            Err(loss) => Err(self.lost(loss)),
        }
    }

    fn start_connecting(&mut self) -> Result<Connecting<T::Stream>, Loss> {
        let request = self.request()?;
        let server = server_of(&request).map_err(|error| Loss::Unreachable(error.to_string()))?;
        let opening = self.transport.open(server);
        let connecting = async move {
            let stream = opening
                .await
                .map_err(|error| Loss::Unreachable(error.to_string()))?;
            Connection::open(request, stream).await.map_err(refused)
        };
        self.session.connecting();
        let time_max = self.connect_timeout;
        Ok(Box::pin(async move {
            let connected = timeout(time_max, connecting).await;
            connected.unwrap_or_else(|_| Err(Loss::Unreachable("no answer".to_owned())))
        }))
    }

    fn request(&mut self) -> Result<Request, Loss> {
        let url = self.address.url(self.session.position());
        let malformed = |error: String| Loss::Unreachable(error);
        let mut request = url
            .into_client_request()
            .map_err(|error| malformed(error.to_string()))?;
        if let Some(tokens) = &mut self.tokens {
            self.last_token = tokens.token().map_err(Loss::Token)?;
        }
        if let Some(token) = &self.last_token {
            let value = format!("Bearer {}", token.expose_secret());
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                let text = "it has characters that no token has";
                Loss::Token(io::Error::new(io::ErrorKind::InvalidData, text))
            })?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }

    /// The next thing that comes over the open connection; sends what is to be sent meanwhile. Cancel safe.
    pub async fn next_incoming(&mut self) -> Result<Activity, Lost> {
        match self.try_next_incoming().await {
            Ok(activity) => Ok(activity),
            Err(loss) => Err(self.lost(loss)),
        }
    }

    async fn try_next_incoming(&mut self) -> Result<Activity, Loss> {
        let Stage::Open(open) = &mut self.stage else {
            return Err(Loss::Broken);
        };
        let incoming = loop {
            while let Some(text) = self.session.next_transmission() {
                open.connection.queue(Message::text(text));
            }
            // From the ping on: a caller that did nothing for long has not asked the server yet.
            let silent_at = open.pinged_at.unwrap_or(open.heard_at) + self.keep_alive;
            match timeout_at(silent_at, open.connection.next()).await {
                Ok(incoming) => break incoming,
                Err(_elapsed) if open.pinged_at.is_some() => return Err(Loss::Silent),
                Err(_elapsed) => {
                    open.pinged_at = Some(Instant::now());
                    open.connection.queue(Message::Ping(Bytes::new()));
                }
            }
        };
        let now = Instant::now();
        open.heard_at = now;
        open.pinged_at = None;
        match incoming {
            Incoming::Control(_) => Ok(Activity::Control),
            Incoming::Text(text) => {
                let received = self.session.receive(&text, now).map_err(Loss::Violation)?;
                self.authenticate(&received)?;
                Ok(Activity::Frame(received))
            }
            Incoming::Closed(Some((code, reason))) => Err(Loss::Closed { code, reason }),
            Incoming::Closed(None) | Incoming::Broken => Err(Loss::Broken),
        }
    }

    /// Sends a token where the frame asks for one.
    fn authenticate(&mut self, received: &Received) -> Result<(), Loss> {
        let is_required = match received.kind() {
            "auth_required" => true,
            "auth_expiring" => false,
            _ => return Ok(()),
        };
        let token = match &mut self.tokens {
            Some(tokens) => tokens.token().map_err(Loss::Token)?,
            None => None,
        };
        match token {
            Some(token) if is_required || !is_same(Some(&token), self.last_token.as_ref()) => {
                let frame = json!({ "type": "auth", "token": token.expose_secret() });
                self.last_token = Some(token);
                self.queue(Message::text(frame.to_string()));
                Ok(())
            }
            None if is_required => Err(Loss::TokenRequired),
            _ => Ok(()),
        }
    }

    /// Sends any WebSocket message over the open connection, past the rules of the session. What is queued
    /// is sent by [`next_incoming`](Self::next_incoming) and [`flush`](Self::flush).
    pub fn queue(&mut self, message: Message) {
        if let Stage::Open(open) = &mut self.stage {
            open.connection.queue(message);
        }
    }

    /// Sends what is queued, without receiving.
    pub async fn flush(&mut self) -> Result<(), Lost> {
        let Stage::Open(open) = &mut self.stage else {
            return Ok(());
        };
        while let Some(text) = self.session.next_transmission() {
            open.connection.queue(Message::text(text));
        }
        match open.connection.flush().await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.lost(Loss::Broken)),
        }
    }

    /// Drops the connection without a close frame. The session waits for its client to come back.
    pub fn disconnect(&mut self) {
        self.stage = Stage::Idle;
        self.session.disconnected();
    }

    fn lost(&mut self, loss: Loss) -> Lost {
        self.stage = Stage::Idle;
        let next = self.session.lost(&loss, Instant::now());
        Lost { loss, next }
    }
}

impl<T: Transport> fmt::Debug for Client<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .field("session", &self.session)
            .field("is_connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

fn refused(error: tungstenite::Error) -> Loss {
    match error {
        tungstenite::Error::Http(response) => Loss::Refused(Refusal::read(&response)),
        tungstenite::Error::Io(error) => Loss::Unreachable(error.to_string()),
        other => Loss::Unreachable(other.to_string()),
    }
}

fn is_same(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    one.map(ExposeSecret::expose_secret) == other.map(ExposeSecret::expose_secret)
}
