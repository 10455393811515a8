//! The rate limits of a connection, and of all connections of its user.

use std::time::Duration;

use duologue_engine::{clock::milliseconds, rate::Rate};
use duologue_protocol::{ClientFrame, ErrorCode, ErrorFrame, MessageId, UserId};

use crate::{
    api_error::ApiError,
    connection_limits::{ConnectionLimits, SLOT_RETRY_DELAY, UserSlot},
};

/// Counts the frames of a client, and how many of them were refused.
#[derive(Debug)]
pub(super) struct FrameRateLimiter {
    connection: Rate,
    user: UserSlot,
    refusals: u32,
    refusals_max: u32,
}

impl FrameRateLimiter {
    /// Takes a slot among the user's sockets.
    pub(super) fn new(limits: &ConnectionLimits, user_id: &UserId) -> Result<Self, ApiError> {
        let user = limits.user_slot(user_id).ok_or(ApiError::TooManyRequests {
            message: "you have too many connections; close one, or try again later",
            wait: SLOT_RETRY_DELAY,
        })?;
        let limits = limits.frames();
        Ok(Self {
            connection: Rate::new(
                limits.frames_per_minute,
                Duration::from_mins(1),
                limits.frames_burst,
            ),
            user,
            refusals: 0,
            refusals_max: limits.refusals_max.get(),
        })
    }

    /// Counts a frame. The error says when to send it again.
    pub(super) fn count_frame(&mut self, frame: &ClientFrame) -> Result<(), ErrorFrame> {
        let ClientFrame::Message(input) = frame else {
            return self.count(None);
        };
        let taken = self
            .connection
            .take()
            .and_then(|()| self.user.count_message());
        self.check(taken, input.id.clone())
    }

    /// Counts a frame that is not a message, or that cannot be read.
    pub(super) fn count(&mut self, id: Option<MessageId>) -> Result<(), ErrorFrame> {
        let taken = self.connection.take();
        self.check(taken, id)
    }

    /// Whether the client continues to send although its frames are refused.
    pub(super) fn is_flooding(&self) -> bool {
        self.refusals >= self.refusals_max
    }

    fn check(
        &mut self,
        taken: Result<(), Duration>,
        id: Option<MessageId>,
    ) -> Result<(), ErrorFrame> {
        let Err(wait) = taken else {
            self.refusals = 0;
            return Ok(());
        };
        self.refusals += 1;
        let message = "too many frames; send this again later";
        Err(ErrorFrame::new(ErrorCode::TooManyRequests, message)
            .with_id(id)
            .with_retry_after_ms(Some(milliseconds(wait))))
    }
}
