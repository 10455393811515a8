//! An agent: prompt, routes, tools and their settings, read from configuration.
//!
//! [`Agent::route`] decides what a turn does, and [`Agent::check`] what becomes of a call that a
//! model asks for. Both are pure: the same conversation always leads to the same choice.
//!
//! The form of the configuration is shown and explained in `config/agent.toml`. Not here: calling
//! tools and asking models, which is the turn's business.

mod build;
mod check;
mod config;
mod fill;
mod parameter;
mod phrases;
mod question;
mod route;
mod tool;
mod words;

use std::{collections::BTreeMap, fmt, sync::Arc};

use duologue_protocol::{FollowUp, UserId};
use serde_json::Value;

use crate::{
    agent::{phrases::Phrases, route::Route, tool::AgentTool},
    tool::{Tool, ToolDefinition},
};

/// An agent, checked and compiled. Cheap to share, not to build.
pub struct Agent {
    name: String,
    prompt: Arc<str>,
    summary_prompt: Arc<str>,
    corrections: Phrases,
    /// Drop the question that waits, wherever they stand in a message.
    drop_phrases: Phrases,
    /// Drop it where a message says nothing else: "cancel" may be about anything.
    drop_words: Phrases,
    /// In the order in which they are tried.
    routes: Vec<Route>,
    tools: BTreeMap<String, AgentTool>,
}

/// Why an agent's configuration is refused. Both are for whoever wrote it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It is not TOML, or not of the form that an agent has.
    #[error("the agent's configuration cannot be read")]
    Unreadable(#[source] toml::de::Error),
    /// A value makes no sense, or a tool that it names is unfit.
    #[error("the agent's configuration is wrong at `{key}`: {problem}")]
    Invalid {
        /// Where, for example `routes.order_status.tool`.
        key: String,
        /// What is wrong and what is allowed.
        problem: String,
    },
}

/// Who decides which tools are called; what [`Provider::calls_tools`] says.
///
/// [`Provider::calls_tools`]: crate::provider::Provider::calls_tools
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelTools {
    /// The model, save where a route forces or forbids.
    Model,
    /// The agent's rules, since the model cannot.
    Rules,
}

impl Agent {
    /// The name that `session_started` tells.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The instructions for answering a user.
    pub fn prompt(&self) -> &Arc<str> {
        &self.prompt
    }

    /// The instructions for summing a session up.
    pub fn summary_prompt(&self) -> &Arc<str> {
        &self.summary_prompt
    }

    /// The agent's tool of that name. `None`: it has none, whatever other agents may have.
    pub fn tool(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name).map(|tool| &tool.tool)
    }

    /// Whether a call of that tool which got no answer may be made again.
    pub fn is_idempotent(&self, name: &str) -> bool {
        self.tools.get(name).is_some_and(|tool| tool.is_idempotent)
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("name", &self.name)
            .field("routes", &self.routes)
            .field("tools", &self.tools.keys())
            .finish_non_exhaustive()
    }
}

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

#[cfg(test)]
mod tests;
