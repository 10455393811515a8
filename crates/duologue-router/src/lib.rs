//! The rule-based agent: routes, slot filling and follow-up questions, for English.
//!
//! [`RuleAgent`] implements the engine's [`Agent`](duologue_engine::agent::Agent) from a TOML file.
//! Its rules match words and patterns in a message, and find the arguments of a tool in it: by the
//! parameters' names, by the patterns in the tool's schema, or in the answer to a question. All of it
//! is pure: the same situation always leads to the same decision.
//!
//! The file's format is explained in `config/agent.toml`. Not here: tools, which are called by the
//! turn, and models.

mod agent;
mod compiler;
mod config;
mod decision;
mod error;
mod model_call;
mod parameter;
mod phrases;
mod question;
mod route;
mod seam;
mod slot_filling;
mod tool;
mod words;

pub use crate::{agent::RuleAgent, error::AgentError};

#[cfg(test)]
mod tests;
