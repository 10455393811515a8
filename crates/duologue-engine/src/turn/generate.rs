//! The nodes that ask the model: prepare the request, stream the answer, check the calls in it.

use std::sync::Arc;

use duologue_protocol::{EventBody, FinishReason, TextPieces, ToolCall, ToolOutcome, ToolResult};
use futures_util::{StreamExt, stream::BoxStream};

use crate::{
    agent::Checked,
    budgets::BudgetQuery,
    provider::{Chunk, ModelCall, ProviderError, Purpose, Request, StopReason, attempt},
    transcript::Conversation,
    turn::{Node, Turn, TurnError, sanitize},
};

/// Whether text was cut at the longest answer.
struct PutText {
    is_cut: bool,
}

/// What a streamed answer consists of, besides its text.
struct Answer {
    calls: Vec<ModelCall>,
    finish_reason: FinishReason,
}

impl Turn {
    /// Builds the request. Tool results are in the conversation already, in the tool role. A turn that
    /// has used up its tool calls must answer with what it has. A turn whose user's tokens are used up
    /// ends here: its reservation covers only its first request.
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
        let mut chunks = self.ask_model(request);
        let mut calls = Vec::new();
        while let Some(chunk) = chunks.next().await {
            match &chunk {
                Ok(chunk) => self.spent.record(chunk),
                Err(_) => self.spent.fail(),
            }
            match chunk? {
                Chunk::Text(text) => {
                    if self.put_text(text).await?.is_cut {
                        // Dropping the stream closes the upstream connection.
                        return Ok(Answer {
                            calls: Vec::new(),
                            finish_reason: FinishReason::Length,
                        });
                    }
                }
                Chunk::Call(call) => {
                    let calls_max = self.context.limits.turn.tool_calls_max;
                    if calls.len() >= usize::from(calls_max.saturating_sub(self.calls_made)) {
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
        let cause = "the answer ended without a finish reason".into();
        Err(TurnError::Provider(ProviderError::Unavailable(cause)))
    }

    /// Starts the request to the model.
    fn ask_model(&mut self, request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        let provider = Arc::clone(&self.context.provider);
        self.model = Some(provider.model().to_owned());
        self.spent.ask(&request);
        attempt::generate(provider, request, self.context.limits.generation.clone())
    }

    /// Puts out pieces of the answer, up to the longest answer.
    async fn put_text(&mut self, pieces: TextPieces) -> Result<PutText, TurnError> {
        let mut pieces = sanitize::pieces(pieces);
        let bytes_max = self.context.limits.turn.answer_bytes_max as usize;
        let bytes = pieces.len();
        pieces.truncate(bytes_max - self.answer_bytes);
        let put = PutText {
            is_cut: pieces.len() < bytes,
        };
        if !pieces.is_empty() {
            self.answer_bytes += pieces.len();
            self.say(pieces).await?;
        }
        Ok(put)
    }

    /// Checks the calls that the model asks for: a complete call is made, the user is asked for a
    /// missing parameter, and the model receives an error for an invalid call.
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

    /// Stores calls that were not made, and why.
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
