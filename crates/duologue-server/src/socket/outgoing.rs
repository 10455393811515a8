//! Frames in one reader's dialect, gathered until they are written together.

use std::vec::Drain;

use axum::{
    body::Bytes,
    extract::ws::{Message, Utf8Bytes},
};
use duologue_engine::SharedFrame;
use duologue_protocol::{ErrorFrame, GoAwayReason, ServerFrame, TextFrames};

use crate::config::Dialect;

/// Spells and gathers.
#[derive(Debug)]
pub(super) struct Outgoing {
    speller: Speller,
    messages: Vec<Message>,
}

#[derive(Debug)]
enum Speller {
    /// Spelled once for all readers.
    Json,
    /// Depends on what this reader has been told.
    Text(TextFrames),
}

impl Outgoing {
    pub(super) fn new(dialect: Dialect) -> Self {
        let speller = match dialect {
            Dialect::Json => Speller::Json,
            Dialect::Text => Speller::Text(TextFrames::default()),
        };
        Self {
            speller,
            messages: Vec::new(),
        }
    }

    /// A frame from the session.
    pub(super) fn frame(&mut self, frame: &SharedFrame) {
        match &mut self.speller {
            Speller::Json => {
                let text = Utf8Bytes::try_from(frame.json()).expect("JSON is UTF-8");
                self.messages.push(Message::Text(text));
            }
            Speller::Text(frames) => {
                let spelled = frames.spell(frame.frame()).into_iter().flatten();
                self.messages
                    .extend(spelled.map(|text| Message::Text(text.into())));
            }
        }
    }

    /// A frame for this reader alone.
    pub(super) fn tell(&mut self, frame: ServerFrame) {
        self.frame(&SharedFrame::new(frame));
    }

    /// A refusal of what this reader asked for.
    pub(super) fn error(&mut self, error: ErrorFrame) {
        self.tell(ServerFrame::Error(error));
    }

    /// The connection has lived long enough; the client may come back at once.
    pub(super) fn notice(&mut self) {
        let notice = ServerFrame::GoAway {
            reason: GoAwayReason::Age,
            reconnect_after_ms: 0,
        };
        self.tell(notice);
    }

    pub(super) fn ping(&mut self) {
        self.messages.push(Message::Ping(Bytes::new()));
    }

    /// All that was gathered, in order.
    pub(super) fn drain(&mut self) -> Drain<'_, Message> {
        self.messages.drain(..)
    }
}
