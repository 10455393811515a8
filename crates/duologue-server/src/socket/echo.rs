//! A peer that sends back each message, so that the conformance suite meets our limits, our close codes
//! and our way of parting, with nothing of sessions in between.

use axum::extract::ws::{Message, WebSocket};
use duologue_protocol::DisconnectReason;
use futures_util::{SinkExt, StreamExt};

use super::{End, failure, farewell, part};

/// Serves the connection until either side closes it.
pub(crate) async fn run(connection: WebSocket) {
    let (mut sink, mut stream) = connection.split();
    let end = loop {
        let step = match stream.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                sink.send(message).await.map_err(failure)
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(frame))) => Err(End::Left(farewell(frame.as_ref()))),
            Some(Err(error)) => Err(failure(error)),
            None => Err(End::Left(DisconnectReason::Lost)),
        };
        if let Err(end) = step {
            break end;
        }
    };
    part(&mut sink, &mut stream, &end).await;
}
