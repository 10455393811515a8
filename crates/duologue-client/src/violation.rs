//! What a server must not send.

/// A frame that the server must not send.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// It is not a JSON object with a `type`.
    #[error("the server sent text that is not a frame: {0}")]
    NotAFrame(String),
    /// Something else came before `session_started`.
    #[error("the first frame is `{0}`")]
    FirstFrame(String),
    /// An event is missing.
    #[error("event {seq} came where event {expected} was expected")]
    EventGap {
        /// The event that follows the last one.
        expected: u64,
        /// The event that came.
        seq: u64,
    },
    /// `replayed` names another event than the last one.
    #[error("the replay ended at {seq:?}, after event {last_seq}")]
    Replayed {
        /// The last event received.
        last_seq: u64,
        /// What the frame names.
        seq: Option<u64>,
    },
    /// A piece of an answer is missing.
    #[error("token {index:?} of {turn_id} came where {expected:?} was expected")]
    TokenGap {
        /// The turn.
        turn_id: String,
        /// The next index; `None` before the answer's `start` or `draft`.
        expected: Option<u64>,
        /// The index that came.
        index: Option<u64>,
    },
}
