//! The node that calls tools: calls are stored first, bounded in time and size, and made concurrently.

use std::{panic::AssertUnwindSafe, sync::Arc};

use duologue_protocol::{EventBody, ToolCall, ToolOutcome, ToolResult};
use futures_util::{FutureExt, future::join_all};
use serde_json::Value;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    clock::milliseconds,
    tool::{ToolContext, ToolError},
    transcript::Conversation,
    turn::{Node, Output, Turn, TurnError, sanitize},
};

impl Turn {
    /// Calls tools whose arguments have been checked, and adds their results to the conversation.
    pub(super) async fn call_tools(&mut self, calls: Vec<ToolCall>) -> Result<Node, TurnError> {
        for call in &calls {
            self.messages.call(call);
            self.emit(EventBody::ToolCall(call.clone())).await?;
        }
        self.stored().await?;
        self.answer_calls(calls).await
    }

    /// Calls tools whose calls are stored.
    pub(super) async fn answer_calls(&mut self, calls: Vec<ToolCall>) -> Result<Node, TurnError> {
        let results = join_all(calls.iter().map(|call| self.call_tool(call))).await;
        let mut failure = None;
        for (result, failed) in results {
            self.messages.result(&result);
            failure = failure.or(failed.then(|| result.name.clone()));
            self.emit(EventBody::ToolResult(result)).await?;
        }
        match failure {
            Some(name) => Err(TurnError::Tool(name)),
            None => Ok(Node::Prepare),
        }
    }

    /// Waits until all outputs so far are stored.
    async fn stored(&self) -> Result<(), TurnError> {
        let (barrier, passed) = oneshot::channel();
        self.put(Output::Barrier(barrier)).await?;
        passed.await.map_err(|_| TurnError::Abandoned)
    }

    /// The result, and whether the tool failed, which ends the turn.
    async fn call_tool(&self, call: &ToolCall) -> (ToolResult, bool) {
        let started = Instant::now();
        let bytes_max = self.context.limits.turn.tool_result_bytes_max as usize;
        let (outcome, failed) = match self.try_tool(call).await {
            Ok(value) => {
                let value = sanitize::capped_json(sanitize::json(value), bytes_max);
                (ToolOutcome::Result(value), false)
            }
            Err(ToolError::Refused(why)) => {
                let why = sanitize::capped_text(sanitize::text(why), bytes_max);
                (ToolOutcome::Error(why), false)
            }
            Err(ToolError::Failed(cause)) => {
                tracing::error!(
                    tool.name = call.name,
                    error = &*cause as &dyn std::error::Error,
                    "tool.failed"
                );
                (ToolOutcome::Error("the tool failed".to_owned()), true)
            }
        };
        let duration_ms = milliseconds(started.elapsed());
        let (call_id, name) = (call.call_id.clone(), call.name.clone());
        (
            ToolResult {
                call_id,
                name,
                outcome,
                duration_ms,
            },
            failed,
        )
    }

    async fn try_tool(&self, call: &ToolCall) -> Result<Value, ToolError> {
        let limits = &self.context.limits.turn;
        let Some(tool) = self.context.agent.tool(&call.name).map(Arc::clone) else {
            return Err(ToolError::Refused(format!(
                "there is no tool called `{}`",
                call.name
            )));
        };
        let context = ToolContext {
            session_id: self.lease.session_id.clone(),
            user_id: self.lease.user_id.clone(),
            call_id: call.call_id.clone(),
        };
        let work = AssertUnwindSafe(tool.call(&call.arguments, &context)).catch_unwind();
        match tokio::time::timeout(limits.tool_timeout, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_panic)) => Err(ToolError::Failed("the tool panicked".into())),
            Err(_elapsed) => {
                let seconds = limits.tool_timeout.as_secs_f64();
                Err(ToolError::Refused(format!(
                    "the tool took longer than {seconds} seconds"
                )))
            }
        }
    }
}
