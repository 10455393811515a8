//! The limits of sessions, turns, generations, jobs, users and the process.
//!
//! Every queue, buffer and loop in the engine is bounded by a field here; there is no "unlimited"
//! value. Sizes are in bytes and times are durations, written `"30s"` in configuration. The
//! defaults and their reasons are in `config/default.toml`.

use std::{
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use duologue_protocol::OnBusy;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::Deserialize;

/// What one session may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionLimits {
    /// How long a session with no reader waits for one to come back before it ends.
    #[serde(with = "duration")]
    pub resume_grace: Duration,
    /// How long a session with readers may go without a user's message before it ends.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// How long attaching a reader may take while storage is unavailable; then it is refused.
    #[serde(with = "duration")]
    pub attach_timeout: Duration,
    /// How often the server looks for sessions whose server was lost.
    #[serde(with = "duration")]
    pub sweep_interval: Duration,
    /// How long a write is retried while storage is unavailable; then the session is given up.
    #[serde(with = "duration")]
    pub storage_retry_timeout: Duration,
    /// The window over which sessions are released, and clients asked to reconnect, when the server
    /// stops. With few sessions it is shorter, and it is never longer than the drain.
    #[serde(with = "duration")]
    pub reconnect_window: Duration,
    /// How often the text of an answer in progress is stored.
    #[serde(with = "duration")]
    pub draft_interval: Duration,
    /// Sockets and mirrors attached to one session. One more is refused with `busy`.
    pub readers_max: u16,
    /// What happens to a message that comes during a turn and has no `on_busy`.
    pub on_busy: OnBusy,
    /// User messages that wait for the running turn. One more is refused with `busy`.
    pub messages_queued_max: u16,
    /// Requests from all readers that the session has not handled. One more is refused with
    /// `busy`.
    pub commands_queued_max: u16,
    /// Frames waiting for one reader. Reaching it cuts that reader off with close code 4008.
    pub reader_frames_max: u16,
    /// Bytes waiting for one reader. Reaching it cuts that reader off with close code 4008.
    pub reader_bytes_max: u32,
}

/// How servers that share a database keep their sessions apart.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterLimits {
    /// How long a server holds its sessions after a heartbeat. Then others may take them over.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How often a server renews its lease; well below `lease`.
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
}

/// What one turn may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnLimits {
    /// Nodes visited in one turn. Reaching it fails the turn with `turn_too_long`.
    pub steps_max: u16,
    /// Tools called in one turn. Reaching it fails the turn with `turn_too_long`.
    pub tool_calls_max: u16,
    /// How long one tool call may take; then the model receives an error.
    #[serde(with = "duration")]
    pub tool_timeout: Duration,
    /// The largest result of a tool. A longer one is cut, and marked as cut.
    pub tool_result_bytes_max: u32,
    /// How much of the conversation a model receives. Older messages are left out.
    pub prompt_bytes_max: u32,
    /// The longest answer, in tokens, as sent to the model.
    pub output_tokens_max: u32,
    /// The longest answer, in bytes, whatever the model sends. A longer one is cut with
    /// `finish_reason` `length`.
    pub answer_bytes_max: u32,
}

/// How long one request to a model may take, and how often it is tried.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationLimits {
    /// From the request to its first piece.
    #[serde(with = "duration")]
    pub first_token_timeout: Duration,
    /// From one piece to the next. Only content counts, not what keeps the connection open.
    #[serde(with = "duration")]
    pub next_token_timeout: Duration,
    /// From the request to the end of the answer.
    #[serde(with = "duration")]
    pub total_timeout: Duration,
    /// How often a request that brought nothing yet is tried again.
    pub retries_max: u16,
    /// The first wait between two tries; later ones double, with jitter.
    #[serde(with = "duration")]
    pub retry_delay: Duration,
    /// The longest `Retry-After` that is honoured. A longer one fails the turn.
    #[serde(with = "duration")]
    pub retry_after_max: Duration,
}

/// How jobs are worked on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobLimits {
    /// Jobs worked on at a time.
    pub workers: u16,
    /// How long a worker's lease of a job lasts, unless renewed.
    #[serde(with = "duration")]
    pub lease: Duration,
    /// How often the lease is renewed; well below `lease`.
    #[serde(with = "duration")]
    pub lease_renewal_interval: Duration,
    /// How often the server looks for jobs that others left behind, and for failed ones.
    #[serde(with = "duration")]
    pub poll_interval: Duration,
    /// The waits between attempts. A job that fails once more than there are waits is over.
    pub retry_delays: Vec<RetryDelay>,
    /// The longest summary, in bytes. A longer one is cut.
    pub summary_bytes_max: u32,
    /// How much of a session's transcript the model receives for its summary.
    pub transcript_bytes_max: u32,
}

/// One wait between two attempts of a job.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(transparent)]
pub struct RetryDelay(#[serde(with = "duration")] pub Duration);

/// What one user may use, whatever the number of connections.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserLimits {
    /// Sockets open at a time, of all sessions. Looked after by the transport.
    pub sockets_max: NonZeroU32,
    /// Active sessions on this server at a time.
    pub sessions_max: NonZeroU32,
    /// Messages a minute, and at once. Looked after by the transport.
    pub messages_per_minute: NonZeroU32,
    /// See `messages_per_minute`.
    pub messages_burst: NonZeroU32,
    /// Turns begun a minute.
    pub turns_per_minute: NonZeroU32,
    /// Turns that run at a time, of all sessions.
    pub turns_running_max: u16,
}

/// What all sessions and users may use together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessLimits {
    /// Bytes of messages that no session has handled, and of frames that no reader has received.
    /// Beyond it readers that are behind are cut off with close code 4008, and messages are refused
    /// with `busy`.
    pub bytes_in_flight_max: NonZeroU64,
}

/// How many tokens may be used, read and written together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_field_names,
    reason = "they are keys, and each is a limit"
)]
pub struct TokenLimits {
    /// By one session in its whole life.
    pub session_max: u64,
    /// By one user in a day of UTC, on all servers.
    pub user_per_day_max: u64,
    /// By this process in a day of UTC, its summaries included.
    pub process_per_day_max: u64,
}
