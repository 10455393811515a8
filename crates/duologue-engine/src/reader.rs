//! A reader: whoever receives a session's frames, with a bounded queue of its own.
//!
//! The session pushes into the queue and never waits. A reader that lets its queue fill is cut off
//! with a close code that means "reconnect and resume", so it slows nobody else. A frame is
//! serialised once, by the first reader that wants it, however many there are.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use duologue_protocol::{
    ClientFrame, CloseCode, ConnectionId, DisconnectReason, ErrorCode, ErrorFrame, MessageId, Seq,
    ServerFrame,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    in_flight::{InFlightBytes, InFlightGuard},
    limits::SessionLimits,
    session::{BUSY_RETRY_DELAY, Command, milliseconds},
    store::{Lease, Store, StoreError},
};

/// Events read from the store at a time while a reader catches up. They count as handed over, so
/// that even events of the largest size must not be many.
const REPLAY_PAGE_EVENTS: u32 = 32;
/// Frames handed to the transport at a time, so that one flush serves many.
const BATCH_FRAMES: usize = 256;
/// A reader that has less than this part of its queue full keeps up, and is not cut off for the
/// sake of the process.
const KEEPING_UP_PART: u64 = 16;

/// A frame, and its JSON once somebody has asked for it.
#[derive(Debug)]
pub struct SharedFrame {
    frame: ServerFrame,
    json: OnceLock<Bytes>,
}

impl SharedFrame {
    /// Wraps a frame for any number of readers.
    pub fn new(frame: ServerFrame) -> Arc<Self> {
        Arc::new(Self {
            frame,
            json: OnceLock::new(),
        })
    }

    /// The frame itself, for dialects other than JSON.
    pub fn frame(&self) -> &ServerFrame {
        &self.frame
    }

    /// The frame in the JSON dialect, always valid UTF-8.
    pub fn json(&self) -> Bytes {
        self.json
            .get_or_init(|| self.frame.to_json().into())
            .clone()
    }

    /// About how many bytes it holds on to while it waits.
    fn size_bytes(&self) -> u64 {
        const OVERHEAD_BYTES: usize = 160;
        let text = match &self.frame {
            ServerFrame::Token { text, .. } => text.len(),
            ServerFrame::Draft { text, .. } => text.len(),
            ServerFrame::Event(_) => self.json().len(),
            _ => 0,
        };
        (text + OVERHEAD_BYTES) as u64
    }
}

/// What a reader receives.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A frame to pass on.
    Frame(Arc<SharedFrame>),
    /// The connection is to be closed with this code; nothing follows.
    Close(CloseCode),
}

/// A delivery on its way.
#[derive(Debug)]
struct Queued {
    delivery: Delivery,
    /// Landed when it is dropped.
    _in_flight: InFlightGuard,
}

/// The receiving end: belongs to one socket or mirror. Dropping it detaches the reader.
#[derive(Debug)]
pub struct Reader {
    connection: ConnectionId,
    queue: mpsc::Receiver<Queued>,
    /// What was taken from the queue at once. Empty but within `receive`.
    taken: Vec<Queued>,
    queued_bytes: Arc<AtomicU64>,
    in_flight: Arc<InFlightBytes>,
    cut: CancellationToken,
    greeting: Vec<Arc<SharedFrame>>,
    catch_up: Option<CatchUp>,
    commands: mpsc::Sender<Command>,
    /// A place kept in the session's inbox, so that a departure is always heard.
    departure: Option<mpsc::OwnedPermit<Command>>,
    reason: DisconnectReason,
}

/// The part of the log that a returning reader has missed.
pub(crate) struct CatchUp {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) lease: Lease,
    pub(crate) after: Seq,
    pub(crate) until: Seq,
    /// What follows the replay: the draft of a forming answer.
    pub(crate) then: Option<Arc<SharedFrame>>,
}

impl std::fmt::Debug for CatchUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CatchUp({}..={})", self.after, self.until)
    }
}

impl Reader {
    /// Waits for frames and appends those that are ready to `batch`, at least one.
    ///
    /// First what the session said on attaching, then what was missed, then live. After a
    /// [`Delivery::Close`] nothing follows. Safe to cancel: nothing is lost.
    pub async fn receive(&mut self, batch: &mut Vec<Delivery>) {
        if !self.greeting.is_empty() {
            batch.extend(self.greeting.drain(..).map(Delivery::Frame));
            return;
        }
        if let Some(catch_up) = &mut self.catch_up {
            if self.cut.is_cancelled() {
                // What follows the replay is lost already. The reader has come further, and can go
                // on from there.
                batch.push(Delivery::Close(CloseCode::Slow));
                return;
            }
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
            return;
        }
        let before = batch.len();
        tokio::select! {
            biased;
            () = self.cut.cancelled() => batch.push(Delivery::Close(CloseCode::Slow)),
            received = self.queue.recv_many(&mut self.taken, BATCH_FRAMES) => {
                batch.extend(self.taken.drain(..).map(|queued| queued.delivery));
                if received == 0 {
                    // The session task is gone without a word, which only a panic can do.
                    batch.push(Delivery::Close(CloseCode::Internal));
                }
            }
        }
        let freed: u64 = batch[before..].iter().map(Delivery::size_bytes).sum();
        self.queued_bytes
            .fetch_sub(freed.min(self.queued()), Ordering::Relaxed);
    }

    fn queued(&self) -> u64 {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Passes a client's request to the session.
    ///
    /// The error frame is the client's answer where the session cannot take more now, or is gone.
    pub fn submit(&self, frame: ClientFrame) -> Result<(), ErrorFrame> {
        let id = match &frame {
            ClientFrame::Message(input) => input.id.clone(),
            _ => None,
        };
        let bytes = match &frame {
            ClientFrame::Message(input) => input.text.len() as u64,
            _ => 0,
        };
        if bytes > 0 && !self.in_flight.has_room_for(bytes) {
            return Err(busy(id, "the server has too much to do; try again"));
        }
        let command = Command::Submit {
            connection: self.connection,
            frame,
            load: self.in_flight.load(bytes),
        };
        self.commands.try_send(command).map_err(|error| {
            let message = match error {
                mpsc::error::TrySendError::Full(_) => "the session has too much to do; try again",
                mpsc::error::TrySendError::Closed(_) => "the session is ending; connect again",
            };
            busy(id, message)
        })
    }

    /// Says why this reader leaves. Without a call it counts as lost.
    pub fn leave(mut self, reason: DisconnectReason) {
        self.reason = reason;
    }
}

/// The answer to a message that cannot be taken now.
fn busy(id: Option<MessageId>, message: &str) -> ErrorFrame {
    ErrorFrame::new(ErrorCode::Busy, message)
        .with_id(id)
        .with_retry_after_ms(Some(milliseconds(BUSY_RETRY_DELAY)))
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(departure) = self.departure.take() {
            departure.send(Command::Detach {
                connection: self.connection,
                reason: self.reason,
            });
        }
    }
}

enum Progress {
    More,
    Complete,
}

impl CatchUp {
    /// Appends the next page of missed events; after the last one `replayed` and the draft.
    async fn page(&mut self, batch: &mut Vec<Delivery>) -> Result<Progress, StoreError> {
        if self.after < self.until {
            let Lease {
                user_id,
                session_id,
                ..
            } = &self.lease;
            let events = self
                .store
                .read(user_id, session_id, self.after, REPLAY_PAGE_EVENTS)
                .await?;
            let before = self.after;
            for event in events.into_iter().filter(|event| event.seq <= self.until) {
                self.after = event.seq;
                batch.push(Delivery::Frame(SharedFrame::new(ServerFrame::Event(event))));
            }
            if self.after == before {
                return Err(StoreError::Corrupt(
                    "the log ends before its last event".into(),
                ));
            }
            if self.after < self.until {
                return Ok(Progress::More);
            }
        }
        let replayed = ServerFrame::Replayed { seq: self.until };
        batch.push(Delivery::Frame(SharedFrame::new(replayed)));
        batch.extend(self.then.take().map(Delivery::Frame));
        Ok(Progress::Complete)
    }
}

impl Delivery {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.size_bytes(),
            Self::Close(_) => 0,
        }
    }
}

/// The sending end: belongs to the session.
#[derive(Debug)]
pub(crate) struct Outlet {
    pub(crate) connection: ConnectionId,
    queue: mpsc::Sender<Queued>,
    queued_bytes: Arc<AtomicU64>,
    bytes_max: u64,
    in_flight: Arc<InFlightBytes>,
    cut: CancellationToken,
}

impl Outlet {
    /// Queues a frame. A reader whose queue is full does not keep up: it is cut off, and reports its
    /// departure itself. So is one that is well behind while the process holds too much for all of
    /// them. One that is cut off, or gone, gets nothing more.
    pub(crate) fn send(&self, frame: &Arc<SharedFrame>) {
        if self.cut.is_cancelled() {
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
            self.cut.cancel();
            tracing::info!(connection = %self.connection, queued, "reader.cut_off");
        }
    }

    /// Tells the reader to close, after what is queued.
    pub(crate) fn close(self, code: CloseCode) {
        let close = Queued {
            delivery: Delivery::Close(code),
            _in_flight: self.in_flight.load(0),
        };
        if self.queue.try_send(close).is_err() {
            self.cut.cancel();
        }
    }
}

/// What a new reader is told before it goes live.
pub(crate) struct Welcome {
    pub(crate) connection: ConnectionId,
    pub(crate) greeting: Vec<Arc<SharedFrame>>,
    pub(crate) catch_up: Option<CatchUp>,
}

/// Makes the two ends of a reader.
pub(crate) fn open(
    welcome: Welcome,
    commands: mpsc::Sender<Command>,
    departure: mpsc::OwnedPermit<Command>,
    limits: &SessionLimits,
    in_flight: &Arc<InFlightBytes>,
) -> (Outlet, Reader) {
    let (sender, receiver) = mpsc::channel(usize::from(limits.reader_frames_max));
    let queued_bytes = Arc::new(AtomicU64::new(0));
    let cut = CancellationToken::new();
    let outlet = Outlet {
        connection: welcome.connection,
        queue: sender,
        queued_bytes: Arc::clone(&queued_bytes),
        bytes_max: limits.reader_bytes_max.into(),
        in_flight: Arc::clone(in_flight),
        cut: cut.clone(),
    };
    let reader = Reader {
        connection: welcome.connection,
        queue: receiver,
        taken: Vec::new(),
        queued_bytes,
        in_flight: Arc::clone(in_flight),
        cut,
        greeting: welcome.greeting,
        catch_up: welcome.catch_up,
        commands,
        departure: Some(departure),
        reason: DisconnectReason::Lost,
    };
    (outlet, reader)
}
