//! One WebSocket: frames in become commands, deliveries out become frames.
//!
//! The socket knows nothing of what it carries. It translates, keeps the peer honest (pings, write
//! timeout), and says how the peer left.

mod credentials;
#[cfg(feature = "testing")]
pub(crate) mod echo;
mod heartbeat;
mod lobby;
mod outgoing;
mod pace;

use std::{sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use duologue_engine::{Delivery, Reader};
use duologue_protocol::{
    ClientFrame, CloseCode, DisconnectReason, ErrorCode, ErrorFrame, ServerFrame,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio_tungstenite::tungstenite;

pub(crate) use self::lobby::{Lobby, Wish};
use crate::{
    auth::Caller,
    config::SocketConfig,
    http::error::ApiError,
    server::App,
    socket::{
        credentials::{Credentials, Due},
        heartbeat::{Beat, Heartbeat},
        outgoing::Outgoing,
        pace::Pace,
    },
};

/// How long the peer may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A socket about to be served.
pub(crate) struct Socket {
    reader: Reader,
    outgoing: Outgoing,
    /// None where users are taken on trust.
    credentials: Option<Credentials>,
    config: Arc<SocketConfig>,
    pace: Pace,
}

/// How the connection came to its end.
enum End {
    /// The peer left, by a close frame or without one.
    Left(DisconnectReason),
    /// We close, and this is why; the reason is what the log says of it.
    Close(CloseCode, DisconnectReason),
}

type Step = Result<(), End>;

impl Socket {
    /// Attaches a reader for somebody who was asked who they are.
    pub(crate) async fn attach(app: &App, wish: &Wish, caller: Caller) -> Result<Self, ApiError> {
        let (session_id, after) = (&wish.session_id, wish.after);
        let pace = Pace::new(&app.gates, &caller.user_id)?;
        let reader = app
            .engine
            .attach(session_id, &caller.user_id, after)
            .await?;
        Ok(Self {
            reader,
            outgoing: Outgoing::new(wish.dialect),
            credentials: Credentials::new(&app.auth, &caller),
            config: Arc::clone(&app.socket),
            pace,
        })
    }

    /// Serves the connection until either side closes it.
    pub(crate) async fn run(mut self, connection: WebSocket) {
        let (mut sink, mut stream) = connection.split();
        let mut heartbeat = Heartbeat::start(&self.config);
        let mut batch = Vec::new();
        let end = loop {
            let step = tokio::select! {
                biased;
                message = stream.next() => {
                    heartbeat.heard();
                    self.take(message, &mut sink).await
                }
                beat = heartbeat.next() => self.beat(beat, &mut sink).await,
                due = next_due(&mut self.credentials) => self.authorise(due, &mut sink).await,
                () = self.reader.receive(&mut batch) => self.deliver(&mut batch, &mut sink).await,
            };
            if let Err(end) = step {
                break end;
            }
        };
        // The session hears of it now; the peer may take its time with the handshake.
        let (End::Left(reason) | End::Close(_, reason)) = end;
        self.reader.leave(reason);
        part(&mut sink, &mut stream, &end).await;
    }

    /// Translates what the peer sent.
    async fn take(
        &mut self,
        message: Option<Result<Message, axum::Error>>,
        sink: &mut SplitSink<WebSocket, Message>,
    ) -> Step {
        let refused = match message {
            Some(Ok(Message::Text(text))) => match ClientFrame::read(&text) {
                Ok(frame) => self.pace.allow(&frame).and_then(|()| self.submit(frame)),
                Err(error) => self
                    .pace
                    .allow_any(error.id.clone())
                    .and(Err(ErrorFrame::from(error))),
            },
            Some(Ok(Message::Binary(_))) => self.pace.allow_any(None).and(Err(ErrorFrame::new(
                ErrorCode::BinaryUnsupported,
                "send text frames; binary frames are not supported",
            ))),
            Some(Ok(Message::Ping(_))) => self.pace.allow_any(None),
            Some(Ok(Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(frame))) => return Err(End::Left(farewell(frame.as_ref()))),
            Some(Err(error)) => return Err(failure(error)),
            None => return Err(End::Left(DisconnectReason::Lost)),
        };
        match refused {
            Ok(()) => Ok(()),
            Err(error) => {
                self.outgoing.error(error);
                self.write(sink).await?;
                if self.pace.is_flooding() {
                    return Err(End::Close(CloseCode::Flooding, DisconnectReason::Lost));
                }
                Ok(())
            }
        }
    }

    /// Passes a request on. A token is the connection's business, and the session's only to refuse
    /// where there are none.
    fn submit(&mut self, frame: ClientFrame) -> Result<(), ErrorFrame> {
        match (frame, &mut self.credentials) {
            (ClientFrame::Auth { token }, Some(credentials)) => credentials.take(token),
            (frame, _) => self.reader.submit(frame),
        }
    }

    /// Does what is due about the connection's token.
    async fn authorise(&mut self, due: Due, sink: &mut SplitSink<WebSocket, Message>) -> Step {
        match due {
            Due::Notice { expires_at } => {
                self.outgoing.tell(ServerFrame::AuthExpiring { expires_at });
            }
            Due::Fresh(identity) => self.outgoing.tell(ServerFrame::AuthOk {
                user_id: identity.user_id,
                expires_at: identity.expires_at,
            }),
            Due::Refused(error) => {
                let (error, _close) = ApiError::from(error).after_upgrade();
                self.outgoing.error(error);
            }
            Due::Close => {
                return Err(End::Close(CloseCode::Unauthorized, DisconnectReason::Lost));
            }
        }
        self.write(sink).await
    }

    async fn beat(&mut self, beat: Beat, sink: &mut SplitSink<WebSocket, Message>) -> Step {
        match beat {
            Beat::Ping => {
                self.outgoing.ping();
                self.write(sink).await
            }
            Beat::Dead => Err(End::Close(
                CloseCode::Unresponsive,
                DisconnectReason::Unresponsive,
            )),
            Beat::Notice => {
                self.outgoing.notice();
                self.write(sink).await
            }
            Beat::TooOld => Err(End::Close(CloseCode::TooOld, DisconnectReason::Lost)),
        }
    }

    /// Spells and sends what the session has for this reader.
    async fn deliver(
        &mut self,
        batch: &mut Vec<Delivery>,
        sink: &mut SplitSink<WebSocket, Message>,
    ) -> Step {
        let mut closing = None;
        for delivery in batch.drain(..) {
            match delivery {
                Delivery::Frame(frame) => self.outgoing.frame(&frame),
                Delivery::Close(code) => closing = Some(code),
            }
        }
        if closing != Some(CloseCode::Slow) {
            self.write(sink).await?;
        }
        match closing {
            None => Ok(()),
            Some(CloseCode::Slow) => Err(End::Close(CloseCode::Slow, DisconnectReason::Slow)),
            Some(code) => Err(End::Close(code, DisconnectReason::Lost)),
        }
    }

    /// Sends all that is gathered with one flush; a peer that does not take it in time is slow.
    async fn write(&mut self, sink: &mut SplitSink<WebSocket, Message>) -> Step {
        let writing = async {
            for message in self.outgoing.drain() {
                sink.feed(message).await?;
            }
            sink.flush().await
        };
        match tokio::time::timeout(self.config.write_timeout, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failure(error)),
            Err(_elapsed) => Err(End::Close(CloseCode::Slow, DisconnectReason::Slow)),
        }
    }
}

/// Waits for what is due about a token; for ever where there is none.
async fn next_due(credentials: &mut Option<Credentials>) -> Due {
    match credentials {
        Some(credentials) => credentials.next().await,
        None => std::future::pending().await,
    }
}

/// A peer that says 1000, or closes without giving a code, is done with the session. Any other code
/// (a page that is reloaded says 1001) means that it may come back.
fn farewell(frame: Option<&CloseFrame>) -> DisconnectReason {
    match frame {
        None => DisconnectReason::Closed,
        Some(frame) if frame.code == 1000 => DisconnectReason::Closed,
        Some(_) => DisconnectReason::Lost,
    }
}

/// Tells a peer that broke the rules from one that was lost.
fn failure(error: axum::Error) -> End {
    let error = match error.into_inner().downcast::<tungstenite::Error>() {
        Ok(error) => error,
        Err(_unknown) => return End::Left(DisconnectReason::Lost),
    };
    tracing::debug!(%error, "socket.failed");
    match *error {
        tungstenite::Error::Capacity(_) => {
            End::Close(CloseCode::TooBig, DisconnectReason::Protocol)
        }
        tungstenite::Error::Utf8(_) => {
            End::Close(CloseCode::InvalidText, DisconnectReason::Protocol)
        }
        tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => End::Left(DisconnectReason::Lost),
        tungstenite::Error::Protocol(_) => {
            End::Close(CloseCode::Protocol, DisconnectReason::Protocol)
        }
        _ => End::Left(DisconnectReason::Lost),
    }
}

/// Lets go of the connection in the way that its end asks for.
async fn part(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    end: &End,
) {
    match end {
        End::Close(code, _) => close(sink, stream, *code).await,
        // tungstenite has the answer to a close frame ready, and sends it with the next flush.
        End::Left(_) => match tokio::time::timeout(CLOSE_TIMEOUT, sink.flush()).await {
            Ok(Ok(())) => {}
            // Whoever left without a word hears no answer either.
            Ok(Err(error)) => tracing::debug!(%error, "farewell.failed"),
            Err(_elapsed) => tracing::debug!("farewell.timed_out"),
        },
    }
}

/// Says why we close, and gives the peer a moment to agree, so that what was sent before arrives.
async fn close(
    sink: &mut SplitSink<WebSocket, Message>,
    stream: &mut SplitStream<WebSocket>,
    code: CloseCode,
) {
    let frame = CloseFrame {
        code: code.number(),
        reason: code.reason().into(),
    };
    let handshake = async {
        sink.send(Message::Close(Some(frame))).await?;
        while let Some(Ok(_unread)) = stream.next().await {}
        Ok::<_, axum::Error>(())
    };
    match tokio::time::timeout(CLOSE_TIMEOUT, handshake).await {
        Ok(Ok(())) => {}
        // Either way the connection is dropped now.
        Ok(Err(error)) => tracing::debug!(%error, "close.failed"),
        Err(_elapsed) => tracing::debug!("close.timed_out"),
    }
}
