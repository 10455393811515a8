//! The section `[limits]`: limits of addresses, connections, users and the process.

use std::num::NonZeroU32;

use duologue_engine::limits::{ProcessLimits, TokenLimits, UserLimits};
use serde::Deserialize;

/// Limits of addresses, connections, users and the process.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// One client address.
    pub address: AddressLimits,
    /// One WebSocket.
    pub connection: FrameLimits,
    /// One user, with all connections.
    pub user: UserLimits,
    /// Tokens of the model.
    pub tokens: TokenLimits,
    /// The process.
    pub process: ProcessLimits,
}

/// The limits of one address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressLimits {
    /// Handshakes and other requests about sessions: the sustained rate.
    pub handshakes_per_second: NonZeroU32,
    /// The same: the burst.
    pub handshakes_burst: NonZeroU32,
    /// Open connections.
    pub connections_max: NonZeroU32,
    /// Open connections that are not attached to a session.
    pub unattached_max: NonZeroU32,
    /// Refused tokens, after which the address is locked out temporarily.
    pub auth_failures_per_minute: NonZeroU32,
}

/// The limits of the frames of one WebSocket.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameLimits {
    /// Frames of any type: the sustained rate.
    pub frames_per_minute: NonZeroU32,
    /// The same: the burst.
    pub frames_burst: NonZeroU32,
    /// Consecutive refusals, after which the connection is closed.
    pub refusals_max: NonZeroU32,
}
