//! The decision what a turn does: the next step for a message.
//!
//! Four interpretations are tried, in this order:
//!
//! 1. The message answers the pending question, corrects an earlier answer to it, or cancels it.
//! 2. It corrects the last call: "no, ORD-1002".
//! 3. It matches a route: any route if the model cannot call tools, else only a forced one.
//! 4. The model answers.
//!
//! A message that does not answer the pending question closes it. A message can be both an answer and
//! a new request, as "show me the order ORD-1001" is while a user id is pending. It is an answer if it
//! answers in full, unless it also contains everything that the new request needs.
//!
//! An invalid value is asked for again if it was surely meant as a value: it is labelled, or contains
//! a digit. Any other single word may be a value or just a word, so it is asked for again once. Longer
//! text is a new message.

use std::sync::Arc;

use duologue_engine::agent::{ModelTools, Plan, Situation, Step};
use serde_json::{Map, Value};

use crate::{
    agent::RuleAgent,
    config::WithModel,
    parameter::{Certainty, Parameter},
    question::question,
    route::{ANSWER, CORRECTION, DROPPED, FOLLOW_UP, Route},
    slot_filling::{Bare, Evidence, Filling, Outcome, Sources},
    tool::AgentTool,
};

/// One decision: what it is made from, and the rules that apply.
pub(crate) struct Decision<'a> {
    agent: &'a RuleAgent,
    situation: &'a Situation<'a>,
    model_tools: ModelTools,
    forbidden: Vec<&'a str>,
    /// The routes that the message matches, in the order of their configuration.
    matches: Vec<&'a Route>,
}

impl<'a> Decision<'a> {
    pub(crate) fn new(
        agent: &'a RuleAgent,
        situation: &'a Situation<'a>,
        model_tools: ModelTools,
    ) -> Self {
        let forbidden = agent.forbidden(situation.text);
        let is_allowed = |route: &&Route| match &route.tool {
            Some(tool) => !forbidden.contains(&tool.as_str()),
            None => true,
        };
        let matches = agent
            .routes
            .iter()
            .filter(is_allowed)
            .filter(|route| route.matches(situation.text))
            .collect();
        Self {
            agent,
            situation,
            model_tools,
            forbidden,
            matches,
        }
    }

    /// Decides what the turn does.
    pub(crate) fn plan(&self) -> Plan {
        self.reply()
            .or_else(|| self.correction())
            .or_else(|| self.request())
            .unwrap_or_else(|| self.generate(ANSWER))
    }

    /// The plan if the message is a reply to the pending question.
    fn reply(&self) -> Option<Plan> {
        let pending = self.situation.pending?;
        // The agent may have lost the tool since it asked.
        let tool = self.allowed_tool(&pending.tool)?;
        let other = self.other_than(tool);
        let text = self.situation.text;
        if self.agent.drop_phrases.is_in(text) || self.agent.drop_words.are_all_of(text) {
            return other.is_none().then(|| self.generate(DROPPED));
        }
        let text = self.agent.corrections.strip(text).unwrap_or(text);
        let none = Map::new();
        let known = pending.arguments.as_object().unwrap_or(&none);
        let filling = Filling::new(tool, self.sources(text, known, Bare::Accepted));
        let is_reply = match (filling.evidence, other) {
            (Evidence::None, Some(_)) => false,
            (Evidence::None, None) => {
                self.model_tools == ModelTools::Unsupported && self.is_attempt(&filling, tool)
            }
            (Evidence::Bare, other) => other.is_none(),
            (Evidence::Named, None) => true,
            (Evidence::Named, Some(other)) => filling.is_complete() && !self.is_complete(other),
        };
        is_reply.then(|| self.act(FOLLOW_UP, tool, filling))
    }

    /// Whether the invalid values were meant as an answer.
    fn is_attempt(&self, filling: &Filling<'_>, tool: &AgentTool) -> bool {
        let is_sure = |certainty: Certainty| certainty == Certainty::Sure;
        filling
            .refused
            .iter()
            .any(|refused| is_sure(refused.certainty))
            || (!filling.refused.is_empty() && self.is_first_question(tool))
    }

    /// Whether the pending question was asked only once: its repetition begins differently.
    fn is_first_question(&self, tool: &AgentTool) -> bool {
        self.situation.pending.is_some_and(|pending| {
            let missing = pending.missing.iter();
            let missing: Vec<&Parameter> =
                missing.filter_map(|name| tool.parameter(name)).collect();
            pending.question == question(&missing, &[])
        })
    }

    /// The plan if the message corrects the last call.
    fn correction(&self) -> Option<Plan> {
        let (name, arguments) = self.situation.last_call?;
        let tool = self.allowed_tool(name)?;
        let text = self.agent.corrections.strip(self.situation.text)?;
        if self.model_tools == ModelTools::Supported || self.other_than(tool).is_some() {
            return None;
        }
        let known = arguments.as_object()?;
        let mut filling = Filling::new(tool, self.sources(text, known, Bare::Ignored));
        if filling.evidence == Evidence::None
            && filling.refused.is_empty()
            && let Some(only) = tool.only_recognisable()
        {
            let mut known = known.clone();
            known.remove(&only.name);
            filling = Filling::new(tool, self.sources(text, &known, Bare::Accepted));
        }
        // "No, thanks" corrects nothing.
        let is_correction = filling.evidence == Evidence::Named
            || filling
                .refused
                .iter()
                .any(|refused| refused.certainty == Certainty::Sure);
        is_correction.then(|| self.act(CORRECTION, tool, filling))
    }

    /// The plan if the message matches a route.
    fn request(&self) -> Option<Plan> {
        let route = self.matches.iter().find(|route| match self.model_tools {
            ModelTools::Unsupported => true,
            ModelTools::Supported => route.with_model == WithModel::Force,
        })?;
        let Some(tool) = self.tool_of(route) else {
            return Some(Plan {
                route: route.name.clone(),
                tool: None,
                step: Step::Generate { tools: Vec::new() },
            });
        };
        let none = Map::new();
        let known = match self.situation.pending {
            Some(pending) if pending.tool == tool.name() => pending.arguments.as_object(),
            _ => None,
        };
        let sources = self.sources(self.situation.text, known.unwrap_or(&none), Bare::Ignored);
        Some(self.act(&route.name, tool, Filling::new(tool, sources)))
    }

    /// The first matching route that does not lead to `tool`.
    fn other_than(&self, tool: &AgentTool) -> Option<&'a Route> {
        let mut matches = self.matches.iter().copied();
        matches.find(|route| route.tool.as_deref() != Some(tool.name()))
    }

    /// Whether the message names all required arguments of the route's tool.
    fn is_complete(&self, route: &Route) -> bool {
        self.tool_of(route).is_some_and(|tool| {
            let none = Map::new();
            let sources = self.sources(self.situation.text, &none, Bare::Ignored);
            let filling = Filling::new(tool, sources);
            filling.evidence == Evidence::Named && filling.is_complete()
        })
    }

    fn tool_of(&self, route: &Route) -> Option<&'a AgentTool> {
        self.allowed_tool(route.tool.as_deref()?)
    }

    fn allowed_tool(&self, name: &str) -> Option<&'a AgentTool> {
        if self.forbidden.contains(&name) {
            return None;
        }
        self.agent.tools.get(name)
    }

    fn sources<'s>(&self, text: &'s str, known: &'s Map<String, Value>, bare: Bare) -> Sources<'s>
    where
        'a: 's,
    {
        Sources {
            text,
            user_id: self.situation.user_id,
            known,
            bare,
        }
    }

    /// The plan that follows from the arguments found.
    fn act(&self, route: &str, tool: &AgentTool, filling: Filling<'_>) -> Plan {
        let step = match filling.outcome() {
            Outcome::Call(arguments) => Step::Call {
                tool: tool.name().to_owned(),
                arguments,
            },
            Outcome::Ask(follow_up) => Step::Ask(follow_up),
            Outcome::Unusable => {
                // The value itself is not logged: it may be text of the user.
                tracing::warn!(tool.name = tool.name(), "tool.unusable");
                return self.generate(route);
            }
        };
        Plan {
            route: route.to_owned(),
            tool: Some(tool.name().to_owned()),
            step,
        }
    }

    /// The plan that the model answers, with the tools that it may call.
    fn generate(&self, route: &str) -> Plan {
        let tools = match self.model_tools {
            ModelTools::Unsupported => Vec::new(),
            ModelTools::Supported => {
                let tools = self.agent.tools.values();
                tools
                    .filter(|tool| !self.forbidden.contains(&tool.name()))
                    .map(|tool| Arc::clone(&tool.offered))
                    .collect()
            }
        };
        Plan {
            route: route.to_owned(),
            tool: None,
            step: Step::Generate { tools },
        }
    }
}
