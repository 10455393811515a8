//! How a connection ends, and the close handshake.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use duologue_protocol::{CloseCode, DisconnectReason};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite;

use crate::shared_stream::SharedStream;

/// How long the client may take to answer a close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a connection ends.
pub(super) enum ConnectionEnd {
    /// The client disconnected, with a close frame or without one.
    Disconnected(DisconnectReason),
    /// The server closes the connection with a code; the reason is for the session's log.
    Close(CloseCode, DisconnectReason),
}

impl ConnectionEnd {
    /// Distinguishes a client that broke the protocol from one that was lost.
    pub(super) fn of_error(error: axum::Error) -> Self {
        let error = match error.into_inner().downcast::<tungstenite::Error>() {
            Ok(error) => error,
            Err(_unknown) => return Self::Disconnected(DisconnectReason::Lost),
        };
        tracing::debug!(%error, "socket.failed");
        match *error {
            tungstenite::Error::Capacity(_) => {
                Self::Close(CloseCode::TooBig, DisconnectReason::Protocol)
            }
            tungstenite::Error::Utf8(_) => {
                Self::Close(CloseCode::InvalidText, DisconnectReason::Protocol)
            }
            tungstenite::Error::Protocol(
                tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            ) => Self::Disconnected(DisconnectReason::Lost),
            tungstenite::Error::Protocol(_) => {
                Self::Close(CloseCode::Protocol, DisconnectReason::Protocol)
            }
            _ => Self::Disconnected(DisconnectReason::Lost),
        }
    }

    pub(super) fn reason(&self) -> DisconnectReason {
        let (Self::Disconnected(reason) | Self::Close(_, reason)) = self;
        *reason
    }
}

/// A client that sends 1000, or closes without a code, is done with the session. After any other code
/// (a page that is reloaded sends 1001) the client may come back.
pub(super) fn disconnect_reason(frame: Option<&CloseFrame>) -> DisconnectReason {
    match frame {
        None => DisconnectReason::Closed,
        Some(frame) if frame.code == 1000 => DisconnectReason::Closed,
        Some(_) => DisconnectReason::Lost,
    }
}

/// Completes the close handshake that the end requires.
pub(super) async fn finish_close(
    connection: &mut WebSocket,
    end: &ConnectionEnd,
    raw: SharedStream,
) {
    match end {
        ConnectionEnd::Close(code, _) => close(connection, *code, raw).await,
        // tungstenite has queued the answer to a close frame, and sends it with the next flush.
        ConnectionEnd::Disconnected(_) => {
            match tokio::time::timeout(CLOSE_TIMEOUT, connection.flush()).await {
                Ok(Ok(())) => {}
                // A client that disconnected without a close frame receives no answer either.
                Ok(Err(error)) => tracing::debug!(%error, "close_answer.failed"),
                Err(_elapsed) => tracing::debug!("close_answer.timed_out"),
            }
        }
    }
}

/// Sends a close frame and waits a moment for the answer, so that earlier frames arrive. Where the
/// WebSocket cannot read the answer, since it has failed, the stream beneath it is drained.
pub(super) async fn close(connection: &mut WebSocket, code: CloseCode, raw: SharedStream) {
    let frame = CloseFrame {
        code: code.number(),
        reason: code.reason().into(),
    };
    let handshake = async {
        connection.send(Message::Close(Some(frame))).await?;
        let mut is_answered = false;
        while let Some(Ok(message)) = connection.next().await {
            is_answered |= matches!(message, Message::Close(_));
        }
        Ok::<_, axum::Error>(is_answered)
    };
    match tokio::time::timeout(CLOSE_TIMEOUT, handshake).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => raw.drain().await,
        // In both cases the connection is dropped now.
        Ok(Err(error)) => tracing::debug!(%error, "close.failed"),
        Err(_elapsed) => tracing::debug!("close.timed_out"),
    }
}
