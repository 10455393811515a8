//! The section `[socket]`: limits and timeouts of one WebSocket.

use std::time::Duration;

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;

/// Limits and timeouts of one WebSocket.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketConfig {
    /// The dialect of clients that do not choose one.
    pub frames: Dialect,
    /// The maximum size of a client's message. A larger one closes the socket with code 1009.
    pub frame_bytes_max: u32,
    /// Allocated for as long as the socket is open.
    pub read_buffer_bytes: u32,
    /// The size from which data is written without a flush. Less than `write_buffer_bytes_max`.
    pub write_buffer_bytes: u32,
    /// The maximum of unwritten data. Any frame that the limits allow fits in.
    pub write_buffer_bytes_max: u32,
    /// How often the client is pinged.
    #[serde(with = "duration")]
    pub ping_interval: Duration,
    /// How long the client may take to answer a ping.
    #[serde(with = "duration")]
    pub pong_timeout: Duration,
    /// The maximum age of a connection.
    #[serde(with = "duration")]
    pub age_max: Duration,
    /// How long before its end the client is notified.
    #[serde(with = "duration")]
    pub age_notice: Duration,
    /// How long writing one frame may take.
    #[serde(with = "duration")]
    pub write_timeout: Duration,
}

/// The format of frames. `docs/protocol.md` describes both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// One JSON object per frame.
    Json,
    /// Plain pieces of text, and a marker after each turn.
    Text,
}
