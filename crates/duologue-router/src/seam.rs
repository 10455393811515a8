//! The engine's interface of agents, implemented by rules.

use std::sync::Arc;

use duologue_engine::{
    agent::{Agent, Checked, ModelTools, Plan, Situation},
    tool::Tool,
};
use serde_json::Value;

use crate::{agent::RuleAgent, decision::Decision, model_call};

impl Agent for RuleAgent {
    fn name(&self) -> &str {
        &self.name
    }

    fn prompt(&self) -> &Arc<str> {
        &self.prompt
    }

    fn summary_prompt(&self) -> &Arc<str> {
        &self.summary_prompt
    }

    /// The plan's route is one of the configuration's, or `answer` (none matched), `follow_up` (the
    /// message answers the pending question), `correction` (it changes the last call's arguments) or
    /// `dropped` (the user does not want to answer).
    fn route(&self, situation: &Situation<'_>, model_tools: ModelTools) -> Plan {
        Decision::new(self, situation, model_tools).plan()
    }

    /// Required arguments that the model left out are taken from where a rule would take them. An
    /// argument that is bound to the session's user is always the session's user.
    fn check(&self, tool: &str, arguments: &Value, situation: &Situation<'_>) -> Checked {
        model_call::check(self, tool, arguments, situation)
    }

    fn tool(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.tools.get(name).map(|tool| &tool.tool)
    }

    fn is_idempotent(&self, name: &str) -> bool {
        self.tools.get(name).is_some_and(|tool| tool.is_idempotent)
    }
}
