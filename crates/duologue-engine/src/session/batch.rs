//! What is stored in one commit, and what readers receive once it is stored.

use duologue_protocol::{
    Event, EventBody, Role, ServerFrame, TokenFrames, ToolCall, ToolOutcome, ToolResult, TurnId,
    UserMessage,
};
use tokio::sync::oneshot;

use crate::{broadcast::SentOutputs, log::NewEvent, reader::Delivery};

/// What readers receive, in order.
enum Outgoing {
    /// The next event of the commit.
    Event,
    Frame(ServerFrame),
    Tokens(TokenFrames),
}

/// Events for one commit, with the frames between them and the turn's barriers.
#[derive(Default)]
pub(super) struct Batch {
    entries: Vec<NewEvent>,
    outgoing: Vec<Outgoing>,
    barriers: Vec<oneshot::Sender<()>>,
    outputs: SentOutputs,
}

impl Batch {
    /// Adds an event.
    pub(super) fn event(&mut self, turn_id: Option<TurnId>, body: EventBody) {
        self.entries.push((turn_id, body));
        self.outgoing.push(Outgoing::Event);
    }

    /// Adds a frame that is not stored.
    pub(super) fn frame(&mut self, frame: ServerFrame) {
        self.outgoing.push(Outgoing::Frame(frame));
    }

    /// Adds pieces of the answer.
    pub(super) fn tokens(&mut self, tokens: TokenFrames) {
        self.outgoing.push(Outgoing::Tokens(tokens));
    }

    /// Adds the start of a turn: its message is stored before anything else of it.
    pub(super) fn turn_start(&mut self, turn_id: TurnId, message: UserMessage) {
        self.outputs.has_start = true;
        self.event(Some(turn_id), EventBody::UserMessage(message));
        self.frame(ServerFrame::Start {
            role: Role::Assistant,
            turn_id,
        });
    }

    /// Counts outputs of the turn, of which the batch has the frames and events.
    pub(super) fn count_outputs(&mut self, count: usize) {
        self.outputs.count += count;
    }

    /// The outputs in the batch.
    pub(super) fn outputs(&self) -> SentOutputs {
        self.outputs
    }

    /// Adds a barrier, which opens once everything before it is stored.
    pub(super) fn barrier(&mut self, barrier: oneshot::Sender<()>) {
        self.barriers.push(barrier);
    }

    /// Adds results for the calls that have none after this batch, `open` before it: models need a
    /// result for every call.
    pub(super) fn close_calls(&mut self, turn_id: TurnId, mut open: Vec<ToolCall>, why: &str) {
        for (_, body) in &self.entries {
            match body {
                EventBody::ToolCall(call) => open.push(call.clone()),
                EventBody::ToolResult(result) => {
                    open.retain(|call| call.call_id != result.call_id);
                }
                _ => {}
            }
        }
        for body in abandoned(open, why) {
            self.event(Some(turn_id), body);
        }
    }

    /// Takes the events to store.
    pub(super) fn take_entries(&mut self) -> Vec<NewEvent> {
        std::mem::take(&mut self.entries)
    }

    /// What readers receive, given the stored events, and the barriers to open.
    pub(super) fn into_deliveries(
        self,
        events: Vec<Event>,
    ) -> (impl Iterator<Item = Delivery>, Vec<oneshot::Sender<()>>) {
        let mut events = events.into_iter();
        let deliveries = self
            .outgoing
            .into_iter()
            .map(move |outgoing| match outgoing {
                Outgoing::Frame(frame) => frame.into(),
                Outgoing::Tokens(tokens) => tokens.into(),
                Outgoing::Event => {
                    let event = events.next().expect("each entry has become an event");
                    ServerFrame::Event(event).into()
                }
            });
        (deliveries, self.barriers)
    }
}

/// Results for calls that will never have one of their own.
pub(super) fn abandoned(calls: Vec<ToolCall>, why: &str) -> impl Iterator<Item = EventBody> {
    calls.into_iter().map(move |call| {
        EventBody::ToolResult(ToolResult {
            call_id: call.call_id,
            name: call.name,
            outcome: ToolOutcome::Error(why.to_owned()),
            duration_ms: 0,
        })
    })
}
