//! Where a reader sends what its client requests.

use std::fmt;

use duologue_protocol::{ClientFrame, DisconnectReason};

use crate::in_flight::InFlightGuard;

/// The way from one reader to its session.
pub(crate) trait RequestSink: fmt::Debug + Send + Sync {
    /// Queues a client's request, and never waits.
    fn submit(&self, frame: ClientFrame, in_flight: InFlightGuard) -> Result<(), SubmitError>;

    /// Reports that the reader is gone. There is always room for this report; only the first one
    /// counts.
    fn depart(&mut self, reason: DisconnectReason);
}

/// Why a request was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubmitError {
    /// The queue is full.
    Full,
    /// The session's task is ending.
    Closed,
}
