//! Why there is no connection, or no longer one.

use std::io;

use crate::{
    close::{AfterClose, close_reason},
    refusal::Refusal,
    violation::Violation,
};

/// Why a connection was lost, or an attempt to connect failed. The text is for people.
#[derive(Debug, thiserror::Error)]
pub enum Loss {
    /// The server closed the connection with a close frame.
    #[error("{}", close_reason(Some(*code)))]
    Closed {
        /// Its code.
        code: u16,
        /// Its reason, as sent.
        reason: String,
    },
    /// The connection broke without a close frame.
    #[error("{}", close_reason(None))]
    Broken,
    /// The server sent nothing, and answered no ping, for too long.
    #[error("the server no longer answers")]
    Silent,
    /// The server broke the protocol, so that this client cannot trust the connection.
    #[error("{0}")]
    Violation(#[source] Violation),
    /// The server refused the handshake.
    #[error("{0}")]
    Refused(Refusal),
    /// No server answered.
    #[error("{0}")]
    Unreachable(String),
    /// The server requires a token, and this client has none.
    #[error("the server requires a token")]
    TokenRequired,
    /// The token cannot be read.
    #[error("the token cannot be read")]
    Token(#[source] io::Error),
}

impl Loss {
    /// What the protocol lets a client do next.
    pub fn next(&self) -> AfterClose {
        match self {
            Self::Closed { code, .. } => AfterClose::of(Some(*code)),
            Self::Broken | Self::Silent | Self::Violation(_) | Self::Unreachable(_) => {
                AfterClose::Reconnect
            }
            Self::Refused(refusal) => refusal.next(),
            Self::TokenRequired | Self::Token(_) => AfterClose::GiveUp,
        }
    }

    /// The close code; `None` where there was no close frame.
    pub fn close_code(&self) -> Option<u16> {
        match self {
            Self::Closed { code, .. } => Some(*code),
            _ => None,
        }
    }
}
