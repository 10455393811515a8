//! Resumes a turn whose server was lost during tool calls.

use std::sync::Arc;

use duologue_protocol::{ToolCall, TurnId};
use tokio::sync::mpsc;

use crate::{
    agent::Step,
    broadcast::Broadcast,
    budgets::UserBudget,
    context::Context,
    provider::Message,
    store::Lease,
    transcript::Transcript,
    turn::{Node, Output, Turn, TurnError},
};

impl Turn {
    /// The open turn of a log whose last holder was lost during tool calls: it makes the calls again
    /// and continues from there. The model is offered the tools that a new turn on the same message would
    /// offer.
    pub(crate) fn resumed(
        context: Arc<Context>,
        broadcast: Arc<Broadcast>,
        (lease, user_budget): (&Lease, &Arc<UserBudget>),
        id: TurnId,
        transcript: &Transcript,
    ) -> Option<(Self, mpsc::Receiver<Output>)> {
        let (text, after) = last_question(&transcript.messages)?;
        let calls_made = after.iter().map(|message| match message {
            Message::Assistant { calls, .. } => calls.len(),
            Message::User(_) | Message::Tool { .. } => 0,
        });
        let calls_made = calls_made.sum::<usize>();
        let (mut turn, outputs) = Self::new(
            context,
            broadcast,
            (lease, user_budget),
            id,
            text,
            transcript,
        );
        // It is in the transcript already.
        turn.messages.pop();
        turn.calls_made = calls_made.try_into().unwrap_or(u16::MAX);
        turn.start = Node::CallAgain(transcript.open_calls.clone());
        Some((turn, outputs))
    }

    /// Makes the calls again. The agent is asked here, not in [`resumed`](Self::resumed), so that a
    /// panic of the agent ends the turn and not the session.
    pub(super) async fn call_again(&mut self, calls: Vec<ToolCall>) -> Result<Node, TurnError> {
        if let Step::Generate { tools } = self.plan().step {
            self.tools = tools;
        }
        self.answer_calls(calls).await
    }
}

/// The last message of the user, and the messages after it.
fn last_question(messages: &[Message]) -> Option<(&Arc<str>, &[Message])> {
    let last = |message: &Message| matches!(message, Message::User(_));
    let (before, after) = messages.split_at(messages.iter().rposition(last)? + 1);
    match before.last() {
        Some(Message::User(text)) => Some((text, after)),
        _ => None,
    }
}
