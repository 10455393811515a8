//! A reader: receives a session's frames through a bounded queue of its own.
//!
//! The session pushes into the queue and never waits. A reader whose queue is full is cut off with a
//! close code that means "reconnect and resume", so it delays no other reader. A frame is serialised
//! once, however many readers there are.

mod catch_up;
mod frame;
mod queue;
mod request_sink;

use std::sync::Arc;

use duologue_protocol::{
    ClientFrame, CloseCode, ConnectionId, DisconnectReason, ErrorCode, ErrorFrame,
};

use crate::{
    error_frames::refusal,
    in_flight::InFlightBytes,
    limits::SessionLimits,
    reader::{catch_up::Progress, queue::ReaderQueue},
    store::StoreError,
};

pub use self::frame::{Delivery, SharedFrame, SharedTokens};
pub(crate) use self::{
    catch_up::CatchUp,
    queue::ReaderSink,
    request_sink::{RequestSink, SubmitError},
};

/// The receiving end: belongs to one socket or mirror. Dropping it detaches the reader.
#[derive(Debug)]
pub struct Reader {
    queue: ReaderQueue,
    greeting: Vec<Arc<SharedFrame>>,
    catch_up: Option<CatchUp>,
    requests: Box<dyn RequestSink>,
    in_flight: Arc<InFlightBytes>,
    reason: DisconnectReason,
}

/// What a new reader receives before live frames.
pub(crate) struct Welcome {
    pub(crate) greeting: Vec<Arc<SharedFrame>>,
    pub(crate) catch_up: Option<CatchUp>,
}

/// Makes the two ends of a reader.
pub(crate) fn open(
    connection: ConnectionId,
    welcome: Welcome,
    requests: Box<dyn RequestSink>,
    limits: &SessionLimits,
    in_flight: &Arc<InFlightBytes>,
) -> (ReaderSink, Reader) {
    let (sink, queue) = queue::channel(connection, limits, in_flight);
    let reader = Reader {
        queue,
        greeting: welcome.greeting,
        catch_up: welcome.catch_up,
        requests,
        in_flight: Arc::clone(in_flight),
        reason: DisconnectReason::Lost,
    };
    (sink, reader)
}

impl Reader {
    /// Waits for frames and appends those that are ready to `batch`, at least one.
    ///
    /// First the frames of the attachment, then the missed events, then live frames. After a
    /// [`Delivery::Close`] nothing follows. Safe to cancel: nothing is lost.
    pub async fn receive(&mut self, batch: &mut Vec<Delivery>) {
        if !self.greeting.is_empty() {
            // Its memory is freed: there is no second greeting.
            let greeting = std::mem::take(&mut self.greeting);
            batch.extend(greeting.into_iter().map(Delivery::Frame));
        } else if self.catch_up.is_some() {
            self.replay(batch).await;
        } else {
            self.queue.receive(batch).await;
        }
    }

    /// Appends to a batch that was received what has become ready since, possibly nothing.
    pub fn receive_ready(&mut self, batch: &mut Vec<Delivery>) {
        let is_live = self.greeting.is_empty() && self.catch_up.is_none();
        if is_live && !matches!(batch.last(), Some(Delivery::Close(_))) {
            self.queue.receive_ready(batch);
        }
    }

    async fn replay(&mut self, batch: &mut Vec<Delivery>) {
        if self.queue.is_cut_off() {
            // Frames after the replay are missing. The reader can resume from where it is.
            batch.push(Delivery::Close(CloseCode::Slow));
            return;
        }
        let Some(catch_up) = &mut self.catch_up else {
            return;
        };
        match catch_up.page(batch).await {
            Ok(Progress::More) => {}
            Ok(Progress::Complete) => self.catch_up = None,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "replay.failed");
                batch.push(Delivery::Close(match error {
                    StoreError::Unavailable(_) => CloseCode::TryAgainLater,
                    StoreError::Conflict | StoreError::Corrupt(_) => CloseCode::Internal,
                }));
            }
        }
    }

    /// Sends a client's request to the session.
    ///
    /// The error frame is the reply to the client if the session cannot queue the request.
    pub fn submit(&self, frame: ClientFrame) -> Result<(), ErrorFrame> {
        let (id, bytes) = match &frame {
            ClientFrame::Message(input) => (input.id.clone(), input.text.len() as u64),
            _ => (None, 0),
        };
        if bytes > 0 && !self.in_flight.has_room_for(bytes) {
            let message = "the server has too much to do; try again";
            return Err(refusal(ErrorCode::Busy, message, id));
        }
        let submitted = self.requests.submit(frame, self.in_flight.load(bytes));
        submitted.map_err(|error| {
            let message = match error {
                SubmitError::Full => "the session has too much to do; try again",
                SubmitError::Closed => "the session is ending; connect again",
            };
            refusal(ErrorCode::Busy, message, id)
        })
    }

    /// Detaches the reader for this reason. A reader that is dropped without a call counts as lost.
    pub fn leave(mut self, reason: DisconnectReason) {
        self.reason = reason;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.requests.depart(self.reason);
    }
}
