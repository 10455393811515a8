//! The format of an agent's file: TOML, as in `config/agent.toml`.
//!
//! Only the structure is here; `compiler` checks the values.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AgentConfig {
    pub(crate) name: String,
    /// The system prompt of every turn.
    pub(crate) prompt: String,
    /// The system prompt for the summary of a session.
    pub(crate) summary_prompt: String,
    /// How a message corrects or cancels a pending question.
    pub(crate) phrases: PhrasesConfig,
    /// Tried in this order; the first that matches is taken.
    #[serde(default)]
    pub(crate) routes: Vec<RouteConfig>,
    /// The tools that the agent has, by name.
    #[serde(default)]
    pub(crate) tools: BTreeMap<String, ToolConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PhrasesConfig {
    /// A message that begins with one of them replaces values given before.
    pub(crate) corrections: Vec<String>,
    /// A message that contains one of them cancels the pending question. A single word does so only
    /// if it is the whole message.
    pub(crate) drops: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteConfig {
    pub(crate) name: String,
    /// Absent: the model answers, without tools.
    pub(crate) tool: Option<String>,
    /// Words and phrases, found as whole words whatever their case.
    #[serde(default)]
    pub(crate) keywords: Vec<String>,
    /// Regular expressions, which see the message as it is.
    #[serde(default)]
    pub(crate) patterns: Vec<String>,
    #[serde(default)]
    pub(crate) with_model: WithModel,
}

/// What a route means for a model that decides by itself which tools to call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WithModel {
    /// Nothing: the route is for models that cannot.
    #[default]
    Advise,
    /// The route is taken whatever the model would do.
    Force,
    /// Neither the model nor the rules may use the route's tool.
    Forbid,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToolConfig {
    /// Whether a call that got no answer may be made again. Absent: what the tool says of itself.
    pub(crate) idempotent: Option<bool>,
    /// Settings of single parameters, by name.
    #[serde(default)]
    pub(crate) parameters: BTreeMap<String, ParameterConfig>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ParameterConfig {
    /// The question to ask when it is the only one missing. Absent: one is made from the schema.
    pub(crate) ask: Option<String>,
    /// Other names that users give it.
    #[serde(default)]
    pub(crate) aliases: Vec<String>,
    /// Where its value comes from, if not from what the user says about it.
    pub(crate) from: Option<Binding>,
}

/// A value that is not read from the text but taken from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Binding {
    /// The whole message, unless a model has given a value.
    Message,
    /// The id of the session's user, whatever the text or a model says.
    User,
}
