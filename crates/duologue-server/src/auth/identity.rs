//! The user that a request acts for.

use duologue_protocol::{Timestamp, UserId};

/// The user of a request, and until when the proof of that is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user_id: UserId,
    /// The token's expiry; none where authentication is disabled.
    pub(crate) expires_at: Option<Timestamp>,
}

/// A user identified by a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) user_id: UserId,
    pub(crate) expires_at: Timestamp,
}

impl From<Identity> for Caller {
    fn from(identity: Identity) -> Self {
        Self {
            user_id: identity.user_id,
            expires_at: Some(identity.expires_at),
        }
    }
}
