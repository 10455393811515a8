//! The state of a session, folded from its log: the conversation as models see it, the pending
//! question, the open turn, and the queue.
//!
//! Invariant: the fold of a log read from the store equals the fold of the events as they were
//! appended. So a session that moved to another server continues where it was.

mod message_ids;
mod queue;

use std::sync::Arc;

use duologue_protocol::{
    AssistantMessage, ConnectionId, Event, EventBody, FollowUp, Seq, Timestamp, ToolCall,
    ToolOutcome, ToolResult, TurnId, Usage, UserMessage,
};

use crate::{
    provider::{Message, ModelCall},
    transcript::{message_ids::MessageIds, queue::Queue},
};

pub(crate) use message_ids::{MESSAGE_IDS_MAX, MessagePosition};

/// A session's state, as far as its log determines it. Bounded, however long the log is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Transcript {
    /// The last event.
    pub(crate) last_seq: Seq,
    /// When it happened.
    pub(crate) last_occurred_at: Option<Timestamp>,
    /// Turns so far; the next one has the next number.
    pub(crate) turns: u32,
    /// Readers so far; the next one has the next number.
    pub(crate) connections: ConnectionId,
    /// The end of the conversation, as models see it: at the end of each turn, what no model will see
    /// again is dropped.
    pub(crate) messages: Vec<Message>,
    /// How much of it a model receives.
    messages_bytes_max: u32,
    /// The question that the user has not answered yet.
    pub(crate) pending: Option<FollowUp>,
    /// The latest tool call, which a correction may refer to.
    pub(crate) last_call: Option<ToolCall>,
    /// The turn that has no end yet.
    pub(crate) open_turn: Option<TurnId>,
    /// When its message was stored.
    pub(crate) open_turn_started_at: Option<Timestamp>,
    /// Its tool calls that have no result yet.
    pub(crate) open_calls: Vec<ToolCall>,
    /// What its turns have used, in tokens.
    pub(crate) tokens: u64,
    /// The messages whose turns have not started.
    pub(crate) queue: Queue,
    /// The positions of the latest messages that have an id.
    pub(crate) message_ids: MessageIds,
}

impl Transcript {
    /// The state before the first event. Models receive about `messages_bytes_max` bytes.
    pub(crate) fn new(messages_bytes_max: u32) -> Self {
        Self {
            messages_bytes_max,
            ..Self::default()
        }
    }

    /// Applies the next event of the log.
    pub(crate) fn apply(&mut self, event: &Event) {
        self.last_seq = event.seq;
        self.last_occurred_at = Some(event.occurred_at);
        match &event.body {
            EventBody::ClientConnected(connected) => self.connections = connected.connection,
            EventBody::MessageQueued(message) => {
                self.queue.add(event.seq, message);
                if let Some(id) = &message.id {
                    self.message_ids.queued(id, event.seq);
                }
            }
            EventBody::UserMessage(message) => self.start_turn(event, message),
            // The router has handled the question; if it is still open, a `follow_up` repeats it.
            EventBody::Routed(_) => self.pending = None,
            EventBody::FollowUp(follow_up) => self.pending = Some(follow_up.clone()),
            EventBody::ToolCall(call) => {
                self.messages.call(call);
                self.last_call = Some(call.clone());
                self.open_calls.push(call.clone());
            }
            EventBody::ToolResult(result) => {
                self.messages.result(result);
                self.open_calls
                    .retain(|call| call.call_id != result.call_id);
            }
            EventBody::AssistantMessage(answer) => self.end_turn(answer),
            EventBody::SessionStarted(_)
            | EventBody::ClientDisconnected(_)
            | EventBody::SessionEnded(_)
            | EventBody::SessionSummarized(_)
            | EventBody::Imported(_) => {}
        }
    }

    fn start_turn(&mut self, event: &Event, message: &UserMessage) {
        if let Some(queued_seq) = message.queued_seq {
            self.queue.remove(queued_seq);
        }
        self.open_turn = event.turn_id;
        self.open_turn_started_at = Some(event.occurred_at);
        self.turns = event.turn_id.map_or(self.turns, |turn| turn.0);
        self.messages.push(Message::User(Arc::clone(&message.text)));
        if let Some(id) = &message.id {
            self.message_ids.stored(id, event.seq, message.queued_seq);
        }
    }

    fn end_turn(&mut self, answer: &AssistantMessage) {
        self.open_turn = None;
        self.open_turn_started_at = None;
        let used = answer.usage.map_or(0, Usage::total);
        self.tokens = self.tokens.saturating_add(used);
        if !answer.text.is_empty() {
            self.messages
                .push(assistant(Arc::clone(&answer.text), Vec::new()));
        }
        let shown = recent(&self.messages, self.messages_bytes_max).len();
        self.messages.drain(..self.messages.len() - shown);
    }
}

/// How tool calls and their results enter a conversation.
pub(crate) trait Conversation {
    /// Adds a call; calls of one moment share one assistant message, as models expect.
    fn call(&mut self, call: &ToolCall);
    /// Adds the result of a call.
    fn result(&mut self, result: &ToolResult);
}

impl Conversation for Vec<Message> {
    fn call(&mut self, call: &ToolCall) {
        let model_call = ModelCall {
            id: call.call_id.0.clone(),
            name: call.name.clone(),
            arguments: call.arguments.clone(),
        };
        match self.last_mut() {
            Some(Message::Assistant { calls, .. }) if !calls.is_empty() => calls.push(model_call),
            _ => self.push(assistant("".into(), vec![model_call])),
        }
    }

    fn result(&mut self, result: &ToolResult) {
        let content = match &result.outcome {
            ToolOutcome::Result(value) => value.to_string(),
            ToolOutcome::Error(message) => serde_json::json!({ "error": message }).to_string(),
        };
        self.push(Message::Tool {
            call_id: result.call_id.0.clone(),
            name: result.name.clone(),
            content: content.into(),
        });
    }
}

fn assistant(text: Arc<str>, calls: Vec<ModelCall>) -> Message {
    Message::Assistant { text, calls }
}

/// The end of the conversation that fits into `bytes_max`, beginning with a user's message.
///
/// The last user's message and what follows it is always included, whatever its size.
pub(crate) fn recent(messages: &[Message], bytes_max: u32) -> &[Message] {
    let mut bytes = 0;
    let mut start = None;
    for (index, message) in messages.iter().enumerate().rev() {
        bytes += size_bytes(message);
        if start.is_some() && bytes > bytes_max as usize {
            break;
        }
        if matches!(message, Message::User(_)) {
            start = Some(index);
        }
    }
    &messages[start.unwrap_or(0)..]
}

/// About how many bytes a message is for a model.
pub(crate) fn size_bytes(message: &Message) -> usize {
    match message {
        Message::User(text) => text.len(),
        Message::Assistant { text, calls } => {
            let calls = calls
                .iter()
                .map(|call| call.name.len() + call.arguments.to_string().len());
            text.len() + calls.sum::<usize>()
        }
        Message::Tool { content, .. } => content.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::User(text.into())
    }

    /// What is dropped at a turn's end would not have been shown later either.
    #[test]
    fn dropping_what_is_not_shown_changes_nothing_that_is() {
        let mut all = Vec::new();
        let mut kept = Vec::new();
        for turn in 0..50_usize {
            let question = "q".repeat(turn * 7 % 40);
            let answer = assistant("a".repeat(turn * 11 % 60).as_str().into(), Vec::new());
            for messages in [&mut all, &mut kept] {
                messages.extend([user(&question), answer.clone()]);
            }
            kept = recent(&kept, 100).to_vec();
            assert_eq!(recent(&all, 100), kept, "after turn {turn}");
        }
        assert!(kept.len() < 10);
    }

    #[test]
    fn the_last_message_is_shown_however_long_it_is() {
        let messages = [user("before"), user(&"x".repeat(200))];
        assert_eq!(recent(&messages, 100), &messages[1..]);
        assert_eq!(recent(&[], 100), []);
    }
}
