//! The broadcast of one session: its readers, and the answer in progress that they receive.
//!
//! A turn sends the pieces of its answer to the readers itself. Everything else reaches them through the
//! session's task, which stores events before it sends them. One lock makes both one order:
//!
//! * While outputs of the turn are on their way through the session, its pieces follow them there. So no
//!   piece overtakes an event.
//! * Text, index and readers change together. So a reader that attaches in mid-answer gets a draft that ends
//!   where the pieces in its queue begin.
//!
//! Not here: the bounds of a reader's queue (`reader`). Sending never waits.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use duologue_protocol::{
    CloseCode, ConnectionId, ErrorFrame, Event, ServerFrame, TextPieces, TokenFrames, TurnId,
};
use tokio::time::Instant;

use crate::{
    lock::lock,
    reader::{Delivery, ReaderSink},
    store::Draft,
};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Broadcast(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    sinks: Vec<ReaderSink>,
    answer: Option<Answer>,
}

/// The answer of the running turn.
#[derive(Debug)]
struct Answer {
    turn_id: TurnId,
    /// Whether readers have received, or will receive, that the turn has started.
    is_recorded: bool,
    text: String,
    next_index: u64,
    started: Instant,
    time_to_first_token: Option<Duration>,
    /// Outputs of the turn on their way through the session.
    pending: usize,
}

/// The answer of a turn that is over.
#[derive(Debug, Default)]
pub(crate) struct FinishedAnswer {
    pub(crate) text: String,
    pub(crate) time_to_first_token: Option<Duration>,
    /// From the turn's start to its end.
    pub(crate) duration: Duration,
}

/// What the session has sent of a turn's outputs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SentOutputs {
    /// How many of them.
    pub(crate) count: usize,
    /// Whether the start of the turn was before them.
    pub(crate) has_start: bool,
}

/// Where pieces of an answer go.
#[derive(Debug)]
pub(crate) enum Route {
    /// They were sent to the readers.
    Sent,
    /// They have to go through the session, behind other outputs.
    ThroughSession(TextPieces),
}

/// For turns.
impl Broadcast {
    /// Sends pieces of the answer to all readers, unless outputs before them are still on their way.
    pub(crate) fn send_pieces(&self, pieces: TextPieces) -> Route {
        let mut state = lock(&self.0);
        let State { sinks, answer } = &mut *state;
        let Some(answer) = answer else {
            // The session has given up the turn.
            return Route::Sent;
        };
        if answer.pending > 0 || !answer.is_recorded {
            answer.pending += 1;
            return Route::ThroughSession(pieces);
        }
        let frames = answer.extend(pieces);
        if !sinks.is_empty() {
            send_to_all(sinks, &frames.into());
        }
        Route::Sent
    }

    /// Counts an output that the turn is about to send to the session.
    pub(crate) fn output_pending(&self) {
        if let Some(answer) = &mut lock(&self.0).answer {
            answer.pending += 1;
        }
    }
}

/// For the session's task: the answer.
impl Broadcast {
    /// A turn starts. Without a message of its user that is still to be stored, its start is recorded.
    pub(crate) fn start_answer(&self, turn_id: TurnId, is_recorded: bool) {
        lock(&self.0).answer = Some(Answer {
            turn_id,
            is_recorded,
            text: String::new(),
            next_index: 0,
            started: Instant::now(),
            time_to_first_token: None,
            pending: 0,
        });
    }

    /// Adds pieces that came through the session to the answer, and returns their frames.
    pub(crate) fn extend_answer(&self, pieces: TextPieces) -> Option<TokenFrames> {
        let mut state = lock(&self.0);
        state.answer.as_mut().map(|answer| answer.extend(pieces))
    }

    /// Sends what a commit has made ready, and lets the turn send pieces itself again if these were all of its
    /// outputs.
    pub(crate) fn send_outputs(
        &self,
        deliveries: impl Iterator<Item = Delivery>,
        outputs: SentOutputs,
    ) {
        let mut state = lock(&self.0);
        for delivery in deliveries {
            send_to_all(&state.sinks, &delivery);
        }
        if let Some(answer) = &mut state.answer {
            answer.is_recorded |= outputs.has_start;
            answer.pending = answer.pending.saturating_sub(outputs.count);
        }
    }

    /// The turn is over: takes its answer.
    pub(crate) fn finish_answer(&self) -> FinishedAnswer {
        let answer = lock(&self.0).answer.take();
        answer.map_or_else(FinishedAnswer::default, |answer| FinishedAnswer {
            text: answer.text,
            time_to_first_token: answer.time_to_first_token,
            duration: answer.started.elapsed(),
        })
    }
}

/// For the session's task: the readers.
impl Broadcast {
    /// Adds a reader. `open` receives the answer in progress, or `None` where the reader receives the turn
    /// from its start; pieces after it are queued for the reader.
    pub(crate) fn attach<T>(&self, open: impl FnOnce(Option<ServerFrame>) -> (ReaderSink, T)) -> T {
        let mut state = lock(&self.0);
        let answer = state.answer.as_ref().filter(|answer| answer.is_recorded);
        let draft = answer.map(|answer| ServerFrame::Draft {
            turn_id: answer.turn_id,
            text: answer.text.as_str().into(),
            next_index: answer.next_index,
        });
        let (sink, opened) = open(draft);
        state.sinks.push(sink);
        opened
    }

    pub(crate) fn remove(&self, connection: ConnectionId) {
        lock(&self.0)
            .sinks
            .retain(|sink| sink.connection() != connection);
    }

    /// How many readers there are.
    pub(crate) fn len(&self) -> usize {
        lock(&self.0).sinks.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends a frame to one reader, if it is still attached.
    pub(crate) fn send(&self, connection: ConnectionId, frame: ServerFrame) {
        let state = lock(&self.0);
        let mut sinks = state.sinks.iter();
        if let Some(sink) = sinks.find(|sink| sink.connection() == connection) {
            sink.send(&frame.into());
        }
    }

    /// Replies to one reader's request with an error; the connection stays open.
    pub(crate) fn refuse(&self, connection: ConnectionId, error: ErrorFrame) {
        self.send(connection, ServerFrame::Error(error));
    }

    /// Sends a frame to all readers.
    pub(crate) fn broadcast(&self, frame: ServerFrame) {
        self.deliver(&frame.into());
    }

    /// Sends a delivery to all readers.
    pub(crate) fn deliver(&self, delivery: &Delivery) {
        send_to_all(&lock(&self.0).sinks, delivery);
    }

    /// Sends stored events to all readers.
    pub(crate) fn broadcast_events(&self, events: Vec<Event>) {
        for event in events {
            self.broadcast(ServerFrame::Event(event));
        }
    }

    /// Closes all connections with this code.
    pub(crate) fn close(&self, code: CloseCode) {
        let sinks = std::mem::take(&mut lock(&self.0).sinks);
        for sink in sinks {
            sink.close(code);
        }
    }

    /// Drops all readers, and the answer. A turn that still runs reaches no one.
    pub(crate) fn abandon(&self) {
        drop(std::mem::take(&mut *lock(&self.0)));
    }
}

/// The text of one turn's answer, to be saved while it grows.
#[derive(Clone, Debug)]
pub(crate) struct AnswerText {
    broadcast: Arc<Broadcast>,
    turn_id: TurnId,
}

impl AnswerText {
    pub(crate) fn new(broadcast: Arc<Broadcast>, turn_id: TurnId) -> Self {
        Self { broadcast, turn_id }
    }

    pub(crate) fn turn_id(&self) -> TurnId {
        self.turn_id
    }

    /// The text so far, if it is longer than `bytes`. Texts only grow.
    pub(crate) fn draft_beyond(&self, bytes: usize) -> Option<Draft> {
        let state = lock(&self.broadcast.0);
        let answer = state.answer.as_ref()?;
        let has_grown = answer.turn_id == self.turn_id && answer.text.len() > bytes;
        has_grown.then(|| Draft {
            turn_id: self.turn_id,
            text: answer.text.clone(),
        })
    }
}

impl Answer {
    fn extend(&mut self, pieces: TextPieces) -> TokenFrames {
        self.time_to_first_token
            .get_or_insert_with(|| self.started.elapsed());
        self.text.push_str(&pieces);
        let first_index = self.next_index;
        self.next_index += pieces.count() as u64;
        TokenFrames {
            turn_id: self.turn_id,
            first_index,
            pieces,
        }
    }
}

fn send_to_all(sinks: &[ReaderSink], delivery: &Delivery) {
    for sink in sinks {
        sink.send(delivery);
    }
}
