//! How much a connection sends, and its user by all connections together.

use std::time::Duration;

use duologue_engine::rate::Rate;
use duologue_protocol::{ClientFrame, ErrorCode, ErrorFrame, MessageId, UserId};

use crate::{
    gates::{Gates, PLACE_RETRY_DELAY, UserPlace},
    http::error::{ApiError, milliseconds},
};

/// Counts what comes in, and what of it was refused.
#[derive(Debug)]
pub(super) struct Pace {
    connection: Rate,
    user: UserPlace,
    refusals: u32,
    refusals_max: u32,
}

impl Pace {
    /// Takes a place among the user's sockets.
    pub(super) fn new(gates: &Gates, user_id: &UserId) -> Result<Self, ApiError> {
        let user = gates.seat(user_id).ok_or(ApiError::TooManyRequests {
            message: "you have too many connections; close one, or try again later",
            wait: PLACE_RETRY_DELAY,
        })?;
        let limits = gates.connection();
        Ok(Self {
            connection: Rate::new(
                limits.messages_per_minute,
                Duration::from_mins(1),
                limits.messages_burst,
            ),
            user,
            refusals: 0,
            refusals_max: limits.refusals_max.get(),
        })
    }

    /// Lets a request through, or says when to send it again.
    pub(super) fn allow(&mut self, frame: &ClientFrame) -> Result<(), ErrorFrame> {
        let ClientFrame::Message(input) = frame else {
            return self.allow_any(None);
        };
        let taken = self.connection.take().and_then(|()| self.user.message());
        self.judge(taken, input.id.clone())
    }

    /// Lets through whatever it is. It costs the same whether it can be read or not.
    pub(super) fn allow_any(&mut self, id: Option<MessageId>) -> Result<(), ErrorFrame> {
        let taken = self.connection.take();
        self.judge(taken, id)
    }

    /// Whether the peer goes on though it was refused again and again.
    pub(super) fn is_flooding(&self) -> bool {
        self.refusals >= self.refusals_max
    }

    fn judge(
        &mut self,
        taken: Result<(), Duration>,
        id: Option<MessageId>,
    ) -> Result<(), ErrorFrame> {
        let Err(wait) = taken else {
            self.refusals = 0;
            return Ok(());
        };
        self.refusals += 1;
        let message = "you send too much; send this again later";
        Err(ErrorFrame::new(ErrorCode::TooManyRequests, message)
            .with_id(id)
            .with_retry_after_ms(Some(milliseconds(wait))))
    }
}
