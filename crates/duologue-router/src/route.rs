//! A route: the words and patterns by which a message is recognised, and the tool that it leads to.

use regex::Regex;

use crate::{config::WithModel, phrases::Phrases};

/// The message matches no route: the model answers.
pub(crate) const ANSWER: &str = "answer";
/// The message answers the pending question.
pub(crate) const FOLLOW_UP: &str = "follow_up";
/// The message corrects the last call.
pub(crate) const CORRECTION: &str = "correction";
/// The message cancels the pending question.
pub(crate) const DROPPED: &str = "dropped";

/// The routes that exist in every agent. A configured one may not have their names.
pub(crate) const RESERVED: [&str; 4] = [ANSWER, FOLLOW_UP, CORRECTION, DROPPED];

/// A configured route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: String,
    pub(crate) tool: Option<String>,
    pub(crate) keywords: Phrases,
    pub(crate) patterns: Vec<Regex>,
    pub(crate) with_model: WithModel,
}

impl Route {
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.keywords.is_in(text) || self.patterns.iter().any(|pattern| pattern.is_match(text))
    }

    pub(crate) fn forbids_tool(&self) -> bool {
        self.with_model == WithModel::Forbid
    }
}
