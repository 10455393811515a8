//! What travels on the wire: ids, events, frames, error and close codes.
//!
//! This crate is the vocabulary that every other crate and every client shares. It knows how things
//! are spelled, and nothing about how they come to be. `docs/protocol.md` is its normative text.

mod client_frame;
mod code;
mod description;
mod event;
mod id;
mod received;
mod server_frame;
mod stored_payload;
mod text_pieces;
mod token_frames;

pub use crate::{
    client_frame::{ClientFrame, FrameError, OnBusy, UserInput},
    code::{CloseCode, ErrorCode},
    description::{FrameDescription, FrameKind},
    event::{
        AssistantMessage, ClientConnected, ClientDisconnected, DisconnectReason, EndReason, Event,
        EventBody, FinishReason, FollowUp, Imported, MessageQueued, Routed, SessionEnded,
        SessionStarted, SessionSummarized, SummaryStatus, ToolCall, ToolOutcome, ToolResult, Usage,
        UserMessage,
    },
    id::{CallId, ConnectionId, IdError, LogId, MessageId, Seq, SessionId, TurnId, UserId},
    received::{ReadError, Received},
    server_frame::{
        DegradedReason, END_OF_RESPONSE, ErrorFrame, GoAwayReason, Role, ServerFrame,
        SessionOpened, TextFrames,
    },
    stored_payload::PayloadError,
    text_pieces::TextPieces,
    token_frames::TokenFrames,
};

/// A moment in time, in UTC, written as RFC 3339 with up to microseconds.
pub type Timestamp = jiff::Timestamp;
