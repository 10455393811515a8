//! A socket that is attached to a session.

use std::{future, sync::Arc};

use axum::extract::ws::{Message, WebSocket};
use duologue_engine::{Delivery, Reader};
use duologue_protocol::{
    ClientFrame, CloseCode, DisconnectReason, ErrorCode, ErrorFrame, ServerFrame, SessionOpened,
};
use futures_util::StreamExt;

use crate::{
    api_error::ApiError,
    app::App,
    auth::Caller,
    config::SocketConfig,
    shared_stream::SharedStream,
    socket::{
        attach_request::AttachRequest,
        connection_end::{ConnectionEnd, disconnect_reason, finish_close},
        connection_token::{ConnectionToken, TokenEvent},
        frame_rate_limiter::FrameRateLimiter,
        heartbeat::{Heartbeat, HeartbeatEvent},
        outgoing::{Outgoing, WriteError},
    },
};

/// A WebSocket that is attached to a session as one of its readers.
pub(crate) struct AttachedSocket {
    reader: Reader,
    outgoing: Outgoing,
    /// None where authentication is disabled.
    token: Option<ConnectionToken>,
    config: Arc<SocketConfig>,
    rate_limiter: FrameRateLimiter,
}

impl AttachedSocket {
    /// Attaches a reader for a caller who is authenticated.
    pub(crate) async fn attach(
        app: &App,
        request: &AttachRequest,
        caller: Caller,
    ) -> Result<Self, ApiError> {
        let rate_limiter = FrameRateLimiter::new(&app.limits, &caller.user_id)?;
        let reader = app
            .engine
            .attach(
                &request.session_id,
                &caller.user_id,
                request.position.as_ref(),
            )
            .await?;
        Ok(Self {
            reader,
            outgoing: Outgoing::new(request.dialect),
            token: ConnectionToken::new(&app.authenticator, &caller),
            config: Arc::clone(&app.socket),
            rate_limiter,
        })
    }

    /// Serves the connection until either side closes it; `raw` is the stream beneath it.
    ///
    /// An idle connection only waits here, so what is rare is boxed: its memory is used while it runs.
    pub(crate) async fn run(
        mut self: Box<Self>,
        mut connection: Box<WebSocket>,
        raw: SharedStream,
    ) {
        let mut heartbeat = Heartbeat::start(&self.config);
        let mut batch = Vec::new();
        let end = loop {
            let handled = tokio::select! {
                biased;
                message = connection.next() => {
                    heartbeat.received();
                    Box::pin(self.handle_message(message, &mut connection)).await
                }
                event = heartbeat.next() => {
                    Box::pin(self.handle_heartbeat(event, &mut connection)).await
                }
                event = next_token_event(&mut self.token) => {
                    Box::pin(self.handle_token_event(event, &mut connection)).await
                }
                () = self.reader.receive(&mut batch) => {
                    // Other tasks run first. Under load they produce more frames meanwhile, which are
                    // written by the same system call; without load there is nothing to wait for.
                    tokio::task::yield_now().await;
                    self.reader.receive_ready(&mut batch);
                    Box::pin(self.deliver(&mut batch, &mut connection)).await
                }
            };
            if let Err(end) = handled {
                break end;
            }
        };
        // The session is notified before the close handshake, which may take the client some time.
        self.reader.leave(end.reason());
        Box::pin(finish_close(&mut connection, &end, raw)).await;
    }

    /// Handles what the client sent.
    async fn handle_message(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
        connection: &mut WebSocket,
    ) -> Result<(), ConnectionEnd> {
        let handled = match message {
            Some(Ok(Message::Text(text))) => self.handle_text(&text),
            Some(Ok(Message::Binary(_))) => {
                self.rate_limiter.count(None).and(Err(ErrorFrame::new(
                    ErrorCode::BinaryUnsupported,
                    "binary frames are not supported; send text frames",
                )))
            }
            Some(Ok(Message::Ping(_))) => self.rate_limiter.count(None),
            Some(Ok(Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(frame))) => {
                let reason = disconnect_reason(frame.as_ref());
                return Err(ConnectionEnd::Disconnected(reason));
            }
            Some(Err(error)) => return Err(ConnectionEnd::of_error(error)),
            None => return Err(ConnectionEnd::Disconnected(DisconnectReason::Lost)),
        };
        let Err(error) = handled else {
            return Ok(());
        };
        self.outgoing.error(error);
        self.write(connection).await?;
        if self.rate_limiter.is_flooding() {
            let (code, reason) = (CloseCode::Flooding, DisconnectReason::Lost);
            return Err(ConnectionEnd::Close(code, reason));
        }
        Ok(())
    }

    fn handle_text(&mut self, text: &str) -> Result<(), ErrorFrame> {
        match ClientFrame::read(text) {
            Ok(frame) => {
                self.rate_limiter.count_frame(&frame)?;
                self.submit(frame)
            }
            Err(error) => {
                self.rate_limiter.count(error.id.clone())?;
                Err(ErrorFrame::from(error))
            }
        }
    }

    /// Passes a request to the session. The connection handles tokens itself; where authentication is
    /// disabled, the session refuses them.
    fn submit(&mut self, frame: ClientFrame) -> Result<(), ErrorFrame> {
        match (frame, &mut self.token) {
            (ClientFrame::Auth { token }, Some(current)) => current.refresh(token),
            (frame, _) => self.reader.submit(frame),
        }
    }

    async fn handle_token_event(
        &mut self,
        event: TokenEvent,
        connection: &mut WebSocket,
    ) -> Result<(), ConnectionEnd> {
        match event {
            TokenEvent::ExpiresSoon { expires_at } => {
                self.outgoing.send(ServerFrame::AuthExpiring { expires_at });
            }
            TokenEvent::Refreshed(identity) => self.outgoing.send(ServerFrame::AuthOk {
                user_id: identity.user_id,
                expires_at: identity.expires_at,
            }),
            TokenEvent::Refused(error) => {
                let (error, _close) = ApiError::from(error).after_upgrade();
                self.outgoing.error(error);
            }
            TokenEvent::Expired => {
                let (code, reason) = (CloseCode::Unauthorized, DisconnectReason::Lost);
                return Err(ConnectionEnd::Close(code, reason));
            }
        }
        self.write(connection).await
    }

    async fn handle_heartbeat(
        &mut self,
        event: HeartbeatEvent,
        connection: &mut WebSocket,
    ) -> Result<(), ConnectionEnd> {
        match event {
            HeartbeatEvent::Ping => self.outgoing.ping(),
            HeartbeatEvent::AgeNotice => self.outgoing.goaway_for_age(),
            HeartbeatEvent::Dead => {
                let (code, reason) = (CloseCode::Unresponsive, DisconnectReason::Unresponsive);
                return Err(ConnectionEnd::Close(code, reason));
            }
            HeartbeatEvent::TooOld => {
                let (code, reason) = (CloseCode::TooOld, DisconnectReason::Lost);
                return Err(ConnectionEnd::Close(code, reason));
            }
        }
        self.write(connection).await
    }

    /// Serialises and sends what the session has for this reader.
    async fn deliver(
        &mut self,
        batch: &mut Vec<Delivery>,
        connection: &mut WebSocket,
    ) -> Result<(), ConnectionEnd> {
        let mut closing = None;
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Frame(frame) => match frame.frame() {
                    ServerFrame::Opened(opened) => self.open(opened.clone()),
                    _ => self.outgoing.frame(&frame),
                },
                Delivery::Tokens(tokens) => self.outgoing.tokens(&tokens),
                Delivery::Close(code) => closing = Some(code),
            }
        }
        if closing != Some(CloseCode::Slow) {
            self.write(connection).await?;
        }
        match closing {
            None => Ok(()),
            Some(CloseCode::Slow) => Err(too_slow()),
            Some(code) => Err(ConnectionEnd::Close(code, DisconnectReason::Lost)),
        }
    }

    /// Adds what the session does not know to the first frame of a connection.
    fn open(&mut self, opened: SessionOpened) {
        self.outgoing.send(ServerFrame::Opened(SessionOpened {
            message_bytes_max: Some(self.config.frame_bytes_max.into()),
            ..opened
        }));
    }

    async fn write(&mut self, connection: &mut WebSocket) -> Result<(), ConnectionEnd> {
        let written = self
            .outgoing
            .write_to(connection, self.config.write_timeout);
        written.await.map_err(|error| match error {
            WriteError::Failed(error) => ConnectionEnd::of_error(error),
            WriteError::TimedOut => too_slow(),
        })
    }
}

fn too_slow() -> ConnectionEnd {
    ConnectionEnd::Close(CloseCode::Slow, DisconnectReason::Slow)
}

/// Waits for the next event of a token; without a token it never returns.
async fn next_token_event(token: &mut Option<ConnectionToken>) -> TokenEvent {
    match token {
        Some(token) => token.next().await,
        None => future::pending().await,
    }
}
