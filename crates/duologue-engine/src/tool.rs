//! The seam to tools: functions that an agent may use.

use std::{ops::Deref, sync::OnceLock};

use async_trait::async_trait;
use duologue_protocol::{CallId, SessionId, UserId};
use serde_json::{Value, value::RawValue};

use crate::BoxError;

/// A function that an agent may use.
#[async_trait]
pub trait Tool: Send + Sync + 'static {
    /// What the tool is called, does and needs.
    fn definition(&self) -> &ToolDefinition;

    /// Whether calling it twice has the effect of one call: it only reads, or it recognises a repeated call
    /// by its [`idempotency_key`](ToolContext::idempotency_key). A call that a lost server left
    /// without a result is then made again; otherwise nobody knows whether it had its effect, and it
    /// is not. An agent may declare otherwise.
    fn is_idempotent(&self) -> bool {
        false
    }

    /// Calls it. `arguments` is an object that the definition's schema has accepted.
    ///
    /// The caller bounds the time and the size of the answer; dropping the future is how a call is
    /// cancelled.
    async fn call(&self, arguments: &Value, context: &ToolContext) -> Result<Value, ToolError>;
}

/// The name, purpose and parameters of a tool, as shown to models and people.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolDefinition {
    /// 1 to 64 characters of `a-z A-Z 0-9 _ -`, as OpenAI's function calling wants it.
    pub name: String,
    /// What it does, in a sentence or two, for the model.
    pub description: String,
    /// A JSON Schema of type `object`. For each property, `title` names it for people, `pattern`,
    /// `enum` and `type` say what is allowed, and `description` and `examples` say so in words.
    pub parameters: Value,
}

/// A tool as an agent offers it to models: made once per agent, and shared by all requests.
#[derive(Debug)]
pub struct OfferedTool {
    definition: ToolDefinition,
    parameters_json: OnceLock<Box<RawValue>>,
}

impl OfferedTool {
    /// A tool that models see as `definition` describes it.
    pub fn new(definition: ToolDefinition) -> Self {
        Self {
            definition,
            parameters_json: OnceLock::new(),
        }
    }

    /// The definition's parameters as JSON text, which is written once.
    pub fn parameters_json(&self) -> &RawValue {
        self.parameters_json.get_or_init(|| {
            let json = serde_json::value::to_raw_value(&self.definition.parameters);
            json.expect("every value can be written as JSON")
        })
    }
}

impl Deref for OfferedTool {
    type Target = ToolDefinition;

    fn deref(&self) -> &ToolDefinition {
        &self.definition
    }
}

impl PartialEq for OfferedTool {
    fn eq(&self, other: &Self) -> bool {
        self.definition == other.definition
    }
}

/// For whom a tool is called.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_field_names,
    reason = "ids are called ids everywhere else"
)]
pub struct ToolContext {
    /// The session of the call.
    pub session_id: SessionId,
    /// Its user.
    pub user_id: UserId,
    /// The call's own name within the session.
    pub call_id: CallId,
}

impl ToolContext {
    /// Names this call among all there are, and is the same if the call is made again. A tool with
    /// side effects passes it on to whatever has the effect.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.session_id, self.call_id)
    }
}

/// How a tool fails. The variants answer "what happens to the turn?".
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The tool refuses. The model receives the reason and continues.
    #[error("{0}")]
    Refused(String),
    /// The tool broke. The turn ends with `tool_failed`; the cause is logged.
    #[error("the tool failed")]
    Failed(#[source] BoxError),
}
