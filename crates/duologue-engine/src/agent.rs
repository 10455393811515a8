//! An agent: prompt, routes, tools and model settings, read from configuration.
//!
//! [`Agent::route`] decides what a turn does, and [`Agent::check`] what becomes of a call that a
//! model asks for. Both are pure: the same conversation always leads to the same choice.

use duologue_protocol::{FollowUp, UserId};
use serde_json::Value;

use crate::tool::ToolDefinition;

/// What a decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What the user wrote.
    pub text: &'a str,
    /// Whose session it is.
    pub user_id: &'a UserId,
    /// The question that waits for an answer, if one does.
    pub pending: Option<&'a FollowUp>,
    /// The last tool call of the conversation, by name and arguments.
    pub last_call: Option<(&'a str, &'a Value)>,
}

/// What a turn does.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The route's name, for the `routed` event.
    pub route: String,
    /// The tool it leads to, if it leads to one.
    pub tool: Option<String>,
    /// The next step.
    pub step: Step,
}

/// The step that follows a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Call a tool with these arguments, which its schema has accepted.
    Call {
        /// The tool's name.
        tool: String,
        /// A JSON object.
        arguments: Value,
    },
    /// Ask for what is missing.
    Ask(FollowUp),
    /// Let the model answer; it may call these tools.
    Generate {
        /// Empty where the rules have decided, or the model cannot call tools.
        tools: Vec<ToolDefinition>,
    },
}

/// What becomes of a call that a model asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// Call the tool with these arguments, which its schema has accepted.
    Call(Value),
    /// A required parameter is missing: ask the user.
    Ask(FollowUp),
    /// Tell the model why the call cannot be made.
    Refused(String),
}
