//! The section `[limits]`: how much anyone may use.

use std::num::NonZeroU32;

use duologue_engine::limits::{ProcessLimits, TokenLimits, UserLimits};
use serde::Deserialize;

/// What an address, a connection, a user and the process may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Whoever it is that comes from there.
    pub address: AddressLimits,
    /// One WebSocket.
    pub connection: FrameLimits,
    /// One user, whatever the number of connections.
    pub user: UserLimits,
    /// Tokens of models.
    pub tokens: TokenLimits,
    /// All together.
    pub process: ProcessLimits,
}

/// What comes from one address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressLimits {
    /// Handshakes and other requests about sessions, in the long run.
    pub handshakes_per_second: NonZeroU32,
    /// The same, at once.
    pub handshakes_burst: NonZeroU32,
    /// Connections open at a time.
    pub connections_max: NonZeroU32,
    /// Those among them that are not attached to a session.
    pub unattached_max: NonZeroU32,
    /// Tokens that were refused, before the address is refused altogether for a while.
    pub auth_failures_per_minute: NonZeroU32,
}

/// What one WebSocket may send.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameLimits {
    /// Messages and everything else, in the long run.
    pub messages_per_minute: NonZeroU32,
    /// The same, at once.
    pub messages_burst: NonZeroU32,
    /// Refusals in a row, before the connection is closed.
    pub refusals_max: NonZeroU32,
}
