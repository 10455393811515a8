//! Why a request is not authenticated.

/// Why a request is not authenticated. Each variant asks the client for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthError {
    /// There is no token.
    Missing,
    /// There is more than one token, or one in a place where none is allowed.
    Misplaced,
    /// The token was valid and has expired.
    Expired,
    /// The token is not valid here.
    Invalid,
    /// The token is valid, and `user_id` names another user.
    OtherUser,
    /// The keys to check tokens by are not available.
    Unavailable,
}
