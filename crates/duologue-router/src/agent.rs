//! The agent's parts, checked and compiled.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{phrases::Phrases, route::Route, tool::AgentTool};

/// An agent whose rules choose the next step, checked and compiled. Cheap to share, not to build.
pub struct RuleAgent {
    pub(crate) name: String,
    pub(crate) prompt: Arc<str>,
    pub(crate) summary_prompt: Arc<str>,
    pub(crate) corrections: Phrases,
    /// Cancel the pending question, wherever they are in a message.
    pub(crate) drop_phrases: Phrases,
    /// Cancel it if they are the whole message: "cancel" may be about anything.
    pub(crate) drop_words: Phrases,
    /// In the order in which they are tried.
    pub(crate) routes: Vec<Route>,
    pub(crate) tools: BTreeMap<String, AgentTool>,
}

impl RuleAgent {
    /// The tools that a route forbids for `text`.
    pub(crate) fn forbidden(&self, text: &str) -> Vec<&str> {
        self.routes
            .iter()
            .filter(|route| route.forbids_tool() && route.matches(text))
            .filter_map(|route| route.tool.as_deref())
            .collect()
    }
}

impl fmt::Debug for RuleAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleAgent")
            .field("name", &self.name)
            .field("routes", &self.routes)
            .field("tools", &self.tools.keys())
            .finish_non_exhaustive()
    }
}
