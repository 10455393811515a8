//! The interface of agents: what a session answers with, and what each turn does next.
//!
//! An agent has prompts and tools, and chooses the next step of a turn. How it chooses is its own
//! business: by rules, by a file, or by leaving everything to the model. Not here: calling tools and
//! asking models, which the turn does.

use std::sync::Arc;

use duologue_protocol::{FollowUp, UserId};
use serde_json::Value;

use crate::tool::{OfferedTool, Tool};

/// Answers in sessions: chooses the next step of each turn, and has the prompts and tools for it.
///
/// Shared by all sessions as `Arc<dyn Agent>`. Every method is pure and returns at once: the same
/// arguments always lead to the same result, so that a turn which another server resumes continues as
/// it began. A panic ends the turn.
pub trait Agent: Send + Sync + 'static {
    /// The name that a new session stores, and that `session_started` contains.
    fn name(&self) -> &str;

    /// The system prompt for answering a user.
    fn prompt(&self) -> &Arc<str>;

    /// The system prompt for summarising a session.
    fn summary_prompt(&self) -> &Arc<str>;

    /// Chooses the step with which a turn begins.
    ///
    /// Whatever the plan, a pending question is closed by it, unless the plan is to ask.
    fn route(&self, situation: &Situation<'_>, model_tools: ModelTools) -> Plan;

    /// Decides whether a call that the model requests is made. The model is not trusted: `tool` may be
    /// any text, and `arguments` any JSON.
    fn check(&self, tool: &str, arguments: &Value, situation: &Situation<'_>) -> Checked;

    /// The tool of that name. `None`: this agent does not have it, even if others do.
    fn tool(&self, name: &str) -> Option<&Arc<dyn Tool>>;

    /// Whether a call of that tool whose result was lost may be repeated. `false` for a tool that the
    /// agent does not have.
    fn is_idempotent(&self, name: &str) -> bool;
}

/// Whether the model can call tools; the result of [`Provider::calls_tools`].
///
/// [`Provider::calls_tools`]: crate::provider::Provider::calls_tools
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelTools {
    /// It can, so the agent may leave the choice to it.
    Supported,
    /// It cannot. The agent chooses, and offers it no tools.
    Unsupported,
}

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The user's message.
    pub text: &'a str,
    /// The session's user.
    pub user_id: &'a UserId,
    /// The follow-up question that is not answered yet.
    pub pending: Option<&'a FollowUp>,
    /// The last tool call of the conversation, by name and arguments.
    pub last_call: Option<(&'a str, &'a Value)>,
}

/// What a turn does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The agent's name for this decision, for the `routed` event.
    pub route: String,
    /// The tool that it leads to, if it leads to one.
    pub tool: Option<String>,
    /// The next step.
    pub step: Step,
}

/// The step that follows a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Call a tool with these arguments, which its schema accepts.
    Call {
        /// The tool's name.
        tool: String,
        /// A JSON object.
        arguments: Value,
    },
    /// Ask the user for what a tool lacks. The question is the turn's answer.
    Ask(FollowUp),
    /// Let the model answer; it may call these tools.
    Generate {
        /// Empty if the model shall answer without tools, or cannot call any.
        tools: Vec<Arc<OfferedTool>>,
    },
}

/// What becomes of a call that the model requests.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// Call the tool with these arguments, which its schema accepts.
    Call(Value),
    /// A required parameter is missing: ask the user.
    Ask(FollowUp),
    /// The call is not made; the model receives the reason.
    Refused(String),
}
