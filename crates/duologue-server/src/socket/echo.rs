//! A WebSocket that sends back every message, so that the conformance suite tests the limits, the
//! close codes and the close handshake of the server without a session.

use axum::extract::ws::{Message, WebSocket};
use duologue_protocol::DisconnectReason;
use futures_util::StreamExt;

use crate::{
    shared_stream::SharedStream,
    socket::connection_end::{ConnectionEnd, disconnect_reason, finish_close},
};

/// Serves the connection until either side closes it.
pub(crate) async fn run(mut connection: WebSocket, raw: SharedStream) {
    let end = loop {
        let handled = match connection.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => connection
                .send(message)
                .await
                .map_err(ConnectionEnd::of_error),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(frame))) => {
                let reason = disconnect_reason(frame.as_ref());
                Err(ConnectionEnd::Disconnected(reason))
            }
            Some(Err(error)) => Err(ConnectionEnd::of_error(error)),
            None => Err(ConnectionEnd::Disconnected(DisconnectReason::Lost)),
        };
        if let Err(end) = handled {
            break end;
        }
    };
    finish_close(&mut connection, &end, raw).await;
}
