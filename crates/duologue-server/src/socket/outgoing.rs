//! Frames in one reader's dialect, collected until they are written together.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::ws::{Message, Utf8Bytes},
};
use duologue_engine::{SharedFrame, SharedTokens};
use duologue_protocol::{ErrorFrame, GoAwayReason, ServerFrame, TextFrames};
use futures_util::{Sink, SinkExt};

use crate::config::Dialect;

/// Serialises and collects frames.
#[derive(Debug)]
pub(super) struct Outgoing {
    serializer: FrameSerializer,
    messages: Vec<Message>,
}

/// Why frames could not be written.
#[derive(Debug)]
pub(super) enum WriteError {
    Failed(axum::Error),
    /// The client did not receive them in time.
    TimedOut,
}

#[derive(Debug)]
enum FrameSerializer {
    /// Serialised once for all readers.
    Json,
    /// Depends on what was sent to this reader before.
    Text(TextFrames),
}

impl Outgoing {
    pub(super) fn new(dialect: Dialect) -> Self {
        let serializer = match dialect {
            Dialect::Json => FrameSerializer::Json,
            Dialect::Text => FrameSerializer::Text(TextFrames::default()),
        };
        Self {
            serializer,
            messages: Vec::new(),
        }
    }

    /// A frame from the session.
    pub(super) fn frame(&mut self, frame: &SharedFrame) {
        match &mut self.serializer {
            FrameSerializer::Json => self.messages.push(json(frame.json())),
            FrameSerializer::Text(frames) => {
                let texts = frames.spell(frame.frame()).into_iter().flatten();
                self.messages
                    .extend(texts.map(|text| Message::Text(text.into())));
            }
        }
    }

    /// Frames of pieces of an answer, from the session.
    pub(super) fn tokens(&mut self, tokens: &SharedTokens) {
        match &mut self.serializer {
            FrameSerializer::Json => {
                let texts = tokens.json().iter().cloned();
                self.messages.extend(texts.map(json));
            }
            FrameSerializer::Text(_) => tokens.frames().for_each(|frame| self.frame(&frame)),
        }
    }

    /// A frame for this reader alone.
    pub(super) fn send(&mut self, frame: ServerFrame) {
        self.frame(&SharedFrame::new(frame));
    }

    /// A refusal of this reader's request.
    pub(super) fn error(&mut self, error: ErrorFrame) {
        self.send(ServerFrame::Error(error));
    }

    /// Announces that the connection is closed for its age; the client may reconnect at once.
    pub(super) fn goaway_for_age(&mut self) {
        let goaway = ServerFrame::GoAway {
            reason: GoAwayReason::Age,
            reconnect_after_ms: 0,
        };
        self.send(goaway);
    }

    pub(super) fn ping(&mut self) {
        self.messages.push(Message::Ping(Bytes::new()));
    }

    /// Writes everything that was collected, with one flush.
    pub(super) async fn write_to(
        &mut self,
        sink: &mut (impl Sink<Message, Error = axum::Error> + Unpin),
        timeout: Duration,
    ) -> Result<(), WriteError> {
        let messages = self.messages.drain(..);
        let writing = async {
            for message in messages {
                sink.feed(message).await?;
            }
            sink.flush().await
        };
        match tokio::time::timeout(timeout, writing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(WriteError::Failed(error)),
            Err(_elapsed) => Err(WriteError::TimedOut),
        }
    }
}

fn json(frame: Bytes) -> Message {
    Message::Text(Utf8Bytes::try_from(frame).expect("JSON is UTF-8"))
}
