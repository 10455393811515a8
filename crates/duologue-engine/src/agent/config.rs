//! The form in which an agent is written: TOML, as in `config/agent.toml`.
//!
//! Only the shape is here; what the values must hold is checked by `agent::build`.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentConfig {
    pub(super) name: String,
    /// The instructions that a model gets with every turn.
    pub(super) prompt: String,
    /// The instructions that a model gets to sum a session up.
    pub(super) summary_prompt: String,
    /// What leads from a question that waits back to the conversation.
    pub(super) phrases: PhrasesConfig,
    /// Tried in this order; the first that matches is taken.
    #[serde(default)]
    pub(super) routes: Vec<RouteConfig>,
    /// The tools that the agent has, by name.
    #[serde(default)]
    pub(super) tools: BTreeMap<String, ToolConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PhrasesConfig {
    /// A message that begins with one of them replaces values given before.
    pub(super) corrections: Vec<String>,
    /// A message that holds one of them drops the question that waits. A single word does so only
    /// where the message is nothing else.
    pub(super) drops: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteConfig {
    pub(super) name: String,
    /// Absent: the model answers, without tools.
    pub(super) tool: Option<String>,
    /// Words and phrases, found as whole words whatever their case.
    #[serde(default)]
    pub(super) keywords: Vec<String>,
    /// Regular expressions, which see the message as it is.
    #[serde(default)]
    pub(super) patterns: Vec<String>,
    #[serde(default)]
    pub(super) with_model: WithModel,
}

/// What a route means for a model that decides by itself which tools to call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum WithModel {
    /// Nothing: the route is for models that cannot.
    #[default]
    Advise,
    /// The route is taken whatever the model would do.
    Force,
    /// The route's tool is kept from the model, and from the rules alike.
    Forbid,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ToolConfig {
    /// Whether a call that got no answer may be made again. Absent: what the tool says of itself.
    pub(super) idempotent: Option<bool>,
    /// Settings of single parameters, by name.
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, ParameterConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParameterConfig {
    /// The question to ask when it is the only one missing. Absent: one is made from the schema.
    pub(super) ask: Option<String>,
    /// Other names that users give it.
    #[serde(default)]
    pub(super) aliases: Vec<String>,
    /// Where its value comes from, if not from what the user says about it.
    pub(super) from: Option<Binding>,
}

/// A value that is not read from the text but taken from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Binding {
    /// The whole message, unless a model has written a value of its own.
    Message,
    /// The id of the session's user, whatever the text or a model says.
    User,
}
