//! The bounded queue between a session and one reader: bounded in frames, in bytes, and by the bytes
//! in flight of the whole process.
//!
//! An idle connection has an empty queue, so an empty queue owns no buffer. Everything about a queue is
//! behind one lock: a reader that is cut off while it takes its frames still receives the close code.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use duologue_protocol::{CloseCode, ConnectionId};

use crate::{
    in_flight::{InFlightBytes, InFlightGuard},
    limits::SessionLimits,
    lock::lock,
    reader::frame::Delivery,
};

/// Deliveries handed to the transport at a time, so that one flush serves many.
const BATCH_DELIVERIES: usize = 256;
/// A reader with less than this part of its queue in use keeps up, and is not cut off when the process
/// has too many bytes in flight.
const KEEPING_UP_PART: u64 = 16;
/// The largest buffer that an empty queue keeps for the next frames.
const KEPT_DELIVERIES: usize = 8;

/// The sending half; the session owns it.
#[derive(Debug)]
pub(crate) struct ReaderSink {
    connection: ConnectionId,
    queue: Arc<Mutex<Queue>>,
    frames_max: usize,
    bytes_max: u64,
}

/// The receiving half; the reader owns it.
#[derive(Debug)]
pub(super) struct ReaderQueue(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    /// The frames of the deliveries.
    frames: usize,
    /// The bytes of the deliveries.
    in_flight: InFlightGuard,
    state: State,
    /// Of the reader that waits for a delivery.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// Frames are missing after those that are queued.
    CutOff,
    /// The sending half is gone.
    Ended,
    /// The receiving half is gone.
    Abandoned,
}

/// Makes the two halves of a reader's queue.
pub(super) fn channel(
    connection: ConnectionId,
    limits: &SessionLimits,
    in_flight: &Arc<InFlightBytes>,
) -> (ReaderSink, ReaderQueue) {
    let queue = Arc::new(Mutex::new(Queue {
        deliveries: VecDeque::new(),
        frames: 0,
        in_flight: in_flight.load(0),
        state: State::Open,
        waker: None,
    }));
    let sink = ReaderSink {
        connection,
        queue: Arc::clone(&queue),
        frames_max: limits.reader_frames_max.into(),
        bytes_max: limits.reader_bytes_max.into(),
    };
    (sink, ReaderQueue(queue))
}

impl ReaderSink {
    /// The number of the reader's connection.
    pub(crate) fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Queues frames, and never waits. A reader whose queue is full is cut off, and reports its
    /// departure itself. So is a reader that is far behind while the process has too many bytes in
    /// flight. A reader that was cut off, or is gone, receives nothing more.
    pub(crate) fn send(&self, delivery: &Delivery) {
        let size = delivery.size_bytes();
        let mut queue = lock(&self.queue);
        if queue.state != State::Open {
            return;
        }
        let bytes = queue.in_flight.bytes() + size;
        let is_behind = bytes > self.bytes_max / KEEPING_UP_PART;
        let frames = queue.frames + delivery.count();
        let is_too_much = frames > self.frames_max || bytes > self.bytes_max;
        let waker = if is_too_much || (is_behind && !queue.in_flight.has_room_for(size)) {
            tracing::info!(connection = %self.connection, queued = bytes, "reader.cut_off");
            queue.end(State::CutOff)
        } else {
            queue.in_flight.grow(size);
            queue.push(delivery.clone())
        };
        drop(queue);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Closes the reader's connection after the queued frames.
    pub(crate) fn close(self, code: CloseCode) {
        let mut queue = lock(&self.queue);
        let waker = if queue.frames < self.frames_max {
            queue.push(Delivery::Close(code))
        } else {
            queue.end(State::CutOff)
        };
        drop(queue);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Drop for ReaderSink {
    fn drop(&mut self) {
        let waker = lock(&self.queue).end(State::Ended);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Queue {
    /// Adds a delivery, and returns the waker of a reader that waits for it.
    fn push(&mut self, delivery: Delivery) -> Option<Waker> {
        self.frames += delivery.count();
        self.deliveries.push_back(delivery);
        self.waker.take()
    }

    /// Ends the queue, unless it has ended; the first reason counts.
    fn end(&mut self, state: State) -> Option<Waker> {
        if self.state == State::Open {
            self.state = state;
        }
        self.waker.take()
    }

    /// Moves deliveries to `batch`, as far as it has room.
    fn take(&mut self, batch: &mut Vec<Delivery>) {
        let room = BATCH_DELIVERIES.saturating_sub(batch.len());
        let count = room.min(self.deliveries.len());
        let before = batch.len();
        batch.extend(self.deliveries.drain(..count));
        let taken = &batch[before..];
        self.frames -= taken.iter().map(Delivery::count).sum::<usize>();
        let bytes = taken.iter().map(Delivery::size_bytes).sum();
        self.in_flight.shrink(bytes);
        if self.deliveries.is_empty() && self.deliveries.capacity() > KEPT_DELIVERIES {
            self.deliveries = VecDeque::new();
        }
    }
}

impl ReaderQueue {
    /// Whether the reader was cut off: frames are missing after those that are queued.
    pub(super) fn is_cut_off(&self) -> bool {
        lock(&self.0).state == State::CutOff
    }

    /// Waits for deliveries and appends those that are ready to `batch`, at least one. Safe to cancel.
    pub(super) async fn receive(&mut self, batch: &mut Vec<Delivery>) {
        poll_fn(|context| self.poll_receive(context, batch)).await;
    }

    /// Appends the deliveries that are ready to `batch`, possibly none.
    pub(super) fn receive_ready(&mut self, batch: &mut Vec<Delivery>) {
        let mut queue = lock(&self.0);
        if queue.state != State::CutOff {
            queue.take(batch);
        }
    }

    fn poll_receive(&self, context: &mut Context<'_>, batch: &mut Vec<Delivery>) -> Poll<()> {
        let mut queue = lock(&self.0);
        if queue.state == State::CutOff {
            batch.push(Delivery::Close(CloseCode::Slow));
        } else if !queue.deliveries.is_empty() {
            queue.take(batch);
        } else if queue.state == State::Open {
            match &mut queue.waker {
                Some(waker) => waker.clone_from(context.waker()),
                none => *none = Some(context.waker().clone()),
            }
            return Poll::Pending;
        } else {
            // The session's task ended without a close code, which only a panic can cause.
            batch.push(Delivery::Close(CloseCode::Internal));
        }
        Poll::Ready(())
    }
}

impl Drop for ReaderQueue {
    fn drop(&mut self) {
        let mut queue = lock(&self.0);
        queue.state = State::Abandoned;
        queue.deliveries = VecDeque::new();
        let bytes = queue.in_flight.bytes();
        queue.in_flight.shrink(bytes);
    }
}
