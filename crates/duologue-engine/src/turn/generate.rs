//! The nodes that ask the model: prepare the request, stream the answer, look at the calls in it.

use std::sync::Arc;

use duologue_protocol::{EventBody, FinishReason, ToolCall, ToolOutcome, ToolResult};
use futures_util::StreamExt;

use crate::{
    agent::Checked,
    budgets::BudgetQuery,
    provider::{Chunk, ModelCall, Purpose, Request, StopReason, attempt},
    transcript::Conversation,
    turn::{Node, Output, Turn, TurnError, sanitize},
};

/// What a streamed answer amounts to, besides its text.
struct Answer {
    calls: Vec<ModelCall>,
    finish_reason: FinishReason,
}

impl Turn {
    /// Makes the request. Tool results are in the conversation already, in the tool role; a turn
    /// that has used up its tool calls must answer with what it has. One that has used up its user's
    /// tokens ends here: it was begun with what its first request may cost, and no more.
    pub(super) fn prepare(&mut self) -> Result<Node, TurnError> {
        if let Some(used) = self.spent.total()
            && !self.may_go_on(used.total())
        {
            return Err(TurnError::OverBudget);
        }
        let limits = &self.context.limits.turn;
        let may_call = self.calls_made < limits.tool_calls_max;
        Ok(Node::Generate(Request {
            purpose: Purpose::Turn,
            system: Arc::clone(self.context.agent.prompt()),
            messages: self.messages.clone(),
            tools: if may_call {
                self.tools.clone()
            } else {
                Vec::new()
            },
            output_tokens_max: limits.output_tokens_max,
        }))
    }

    fn may_go_on(&self, used: u64) -> bool {
        let budget_query = BudgetQuery {
            session_tokens: self.session_tokens,
            reserve: self.context.limits.turn.output_tokens_max.into(),
            now: self.context.clock.now(),
        };
        let budgets = &self.context.budgets;
        budgets.may_go_on(&self.user_budget, budget_query, used)
    }

    /// Streams the answer; then calls the tools that it asks for, or is done.
    pub(super) async fn generate(&mut self, request: Request) -> Result<Node, TurnError> {
        let Answer {
            calls,
            finish_reason,
        } = self.stream(request).await?;
        if calls.is_empty() {
            return Ok(Node::Done(finish_reason));
        }
        self.decide(calls).await
    }

    async fn stream(&mut self, request: Request) -> Result<Answer, TurnError> {
        let context = Arc::clone(&self.context);
        self.model = Some(context.provider.model().to_owned());
        let provider = Arc::clone(&context.provider);
        self.spent.ask(&request);
        let mut chunks = attempt::generate(provider, request, context.limits.generation.clone());
        let bytes_max = context.limits.turn.answer_bytes_max as usize;
        let calls_max = context
            .limits
            .turn
            .tool_calls_max
            .saturating_sub(self.calls_made);
        let mut calls = Vec::new();
        while let Some(chunk) = chunks.next().await {
            match &chunk {
                Ok(chunk) => self.spent.hear(chunk),
                Err(_) => self.spent.fail(),
            }
            match chunk? {
                Chunk::Text(text) => {
                    let text = sanitize::text(text);
                    let fitting = sanitize::beginning(&text, bytes_max - self.answer_bytes);
                    if fitting.len() < text.len() {
                        self.say(fitting.to_owned()).await?;
                        // Dropping the stream closes the upstream connection.
                        return Ok(Answer {
                            calls: Vec::new(),
                            finish_reason: FinishReason::Length,
                        });
                    }
                    self.say(text).await?;
                }
                Chunk::Call(call) => {
                    if calls.len() >= usize::from(calls_max) {
                        return Err(TurnError::TooLong);
                    }
                    calls.push(call);
                }
                Chunk::Progress => {}
                Chunk::Finished { reason, .. } => {
                    let finish_reason = match reason {
                        StopReason::Stop => FinishReason::Stop,
                        StopReason::Length => FinishReason::Length,
                    };
                    return Ok(Answer {
                        calls,
                        finish_reason,
                    });
                }
            }
        }
        let cause = "the answer ended without saying why".into();
        Err(TurnError::Provider(
            crate::provider::ProviderError::Unavailable(cause),
        ))
    }

    /// Puts out a piece of the answer.
    async fn say(&mut self, text: String) -> Result<(), TurnError> {
        if text.is_empty() {
            return Ok(());
        }
        self.answer_bytes += text.len();
        self.put(Output::Text(text)).await
    }

    /// Looks at the calls that the model asks for: what is ready is called, what lacks a parameter
    /// is asked of the user, what is wrong is reported to the model.
    async fn decide(&mut self, calls: Vec<ModelCall>) -> Result<Node, TurnError> {
        let is_only = calls.len() == 1;
        let mut ready = Vec::new();
        let mut refused = Vec::new();
        for ModelCall {
            name, arguments, ..
        } in calls
        {
            let (name, arguments) = (sanitize::text(name), sanitize::json(arguments));
            match self
                .context
                .agent
                .check(&name, &arguments, &self.situation())
            {
                Checked::Call(arguments) => ready.push(self.call(name, arguments)),
                Checked::Ask(question) if is_only => return Ok(Node::Ask(question)),
                Checked::Ask(question) => {
                    // One question at a time: the model asks for this when the others are done.
                    let missing = question.missing.join(", ");
                    let why = format!("missing: {missing}; ask the user");
                    refused.push((self.call(name, arguments), why));
                }
                Checked::Refused(why) => refused.push((self.call(name, arguments), why)),
            }
        }
        self.refuse(refused).await?;
        Ok(if ready.is_empty() {
            Node::Prepare
        } else {
            Node::CallTools(ready)
        })
    }

    /// Puts calls on record that were not made, and why.
    async fn refuse(&mut self, refused: Vec<(ToolCall, String)>) -> Result<(), TurnError> {
        for (call, why) in refused {
            self.messages.call(&call);
            let result = ToolResult {
                call_id: call.call_id.clone(),
                name: call.name.clone(),
                outcome: ToolOutcome::Error(why),
                duration_ms: 0,
            };
            self.messages.result(&result);
            self.emit(EventBody::ToolCall(call)).await?;
            self.emit(EventBody::ToolResult(result)).await?;
        }
        Ok(())
    }
}
