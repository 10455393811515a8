//! The bounded queue between a session and one reader: bounded in frames, in bytes, and by the bytes
//! in flight of the whole process.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use duologue_protocol::{CloseCode, ConnectionId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    in_flight::{InFlightBytes, InFlightGuard},
    limits::SessionLimits,
    reader::frame::{Delivery, SharedFrame},
};

/// Frames handed to the transport at a time, so that one flush serves many.
const BATCH_FRAMES: usize = 256;
/// A reader with less than this part of its queue in use keeps up, and is not cut off when the process
/// has too many bytes in flight.
const KEEPING_UP_PART: u64 = 16;

/// A delivery on its way.
#[derive(Debug)]
struct Queued {
    delivery: Delivery,
    _in_flight: InFlightGuard,
}

/// The sending half; the session owns it.
#[derive(Debug)]
pub(crate) struct ReaderSink {
    connection: ConnectionId,
    queue: mpsc::Sender<Queued>,
    queued_bytes: Arc<AtomicU64>,
    bytes_max: u64,
    in_flight: Arc<InFlightBytes>,
    cut_off: CancellationToken,
}

/// The receiving half; the reader owns it.
#[derive(Debug)]
pub(super) struct ReaderQueue {
    queue: mpsc::Receiver<Queued>,
    /// What was received at once. Empty except within `receive`.
    received: Vec<Queued>,
    queued_bytes: Arc<AtomicU64>,
    cut_off: CancellationToken,
}

/// Makes the two halves of a reader's queue.
pub(super) fn channel(
    connection: ConnectionId,
    limits: &SessionLimits,
    in_flight: &Arc<InFlightBytes>,
) -> (ReaderSink, ReaderQueue) {
    let (sender, receiver) = mpsc::channel(usize::from(limits.reader_frames_max));
    let queued_bytes = Arc::new(AtomicU64::new(0));
    let cut_off = CancellationToken::new();
    let sink = ReaderSink {
        connection,
        queue: sender,
        queued_bytes: Arc::clone(&queued_bytes),
        bytes_max: limits.reader_bytes_max.into(),
        in_flight: Arc::clone(in_flight),
        cut_off: cut_off.clone(),
    };
    let queue = ReaderQueue {
        queue: receiver,
        received: Vec::new(),
        queued_bytes,
        cut_off,
    };
    (sink, queue)
}

impl ReaderSink {
    /// The number of the reader's connection.
    pub(crate) fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Queues a frame, and never waits. A reader whose queue is full is cut off, and reports its
    /// departure itself. So is a reader that is far behind while the process has too many bytes in
    /// flight. A reader that was cut off, or is gone, receives nothing more.
    pub(crate) fn send(&self, frame: &Arc<SharedFrame>) {
        if self.cut_off.is_cancelled() {
            return;
        }
        let size = frame.size_bytes();
        let queued = self.queued_bytes.fetch_add(size, Ordering::Relaxed) + size;
        let is_behind = queued > self.bytes_max / KEEPING_UP_PART;
        let delivery = Queued {
            delivery: Delivery::Frame(Arc::clone(frame)),
            _in_flight: self.in_flight.load(size),
        };
        let is_too_much = queued > self.bytes_max || (is_behind && self.in_flight.is_full());
        if is_too_much || self.queue.try_send(delivery).is_err() {
            self.cut_off.cancel();
            tracing::info!(connection = %self.connection, queued, "reader.cut_off");
        }
    }

    /// Closes the reader's connection after the queued frames.
    pub(crate) fn close(self, code: CloseCode) {
        let close = Queued {
            delivery: Delivery::Close(code),
            _in_flight: self.in_flight.load(0),
        };
        if self.queue.try_send(close).is_err() {
            self.cut_off.cancel();
        }
    }
}

impl ReaderQueue {
    /// Whether the reader was cut off: frames are missing after those that are queued.
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.is_cancelled()
    }

    /// Waits for deliveries and appends those that are ready to `batch`, at least one. Safe to cancel.
    pub(super) async fn receive(&mut self, batch: &mut Vec<Delivery>) {
        let before = batch.len();
        tokio::select! {
            biased;
            () = self.cut_off.cancelled() => batch.push(Delivery::Close(CloseCode::Slow)),
            count = self.queue.recv_many(&mut self.received, BATCH_FRAMES) => {
                batch.extend(self.received.drain(..).map(|queued| queued.delivery));
                if count == 0 {
                    // The session's task ended without a close code, which only a panic can cause.
                    batch.push(Delivery::Close(CloseCode::Internal));
                }
            }
        }
        let freed: u64 = batch[before..].iter().map(Delivery::size_bytes).sum();
        let queued = self.queued_bytes.load(Ordering::Relaxed);
        self.queued_bytes
            .fetch_sub(freed.min(queued), Ordering::Relaxed);
    }
}
