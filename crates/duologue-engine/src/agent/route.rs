//! What a turn does: the next step for a message.
//!
//! Four things are tried, in this order:
//!
//! 1. The message answers the question that waits, corrects what was said before it, or drops it.
//! 2. It corrects the last call: "no, ORD-1002".
//! 3. It matches a route: any, where the rules decide, and a forced one, where the model does.
//! 4. The model answers.
//!
//! A question that waits is dropped by what does not answer it. Two rules settle what is both an
//! answer and a new request, as "show me the order ORD-1001" is while a user id is asked for: a
//! message that answers in full is an answer, unless it holds all that the new request needs.
//!
//! A value that does not suit is asked for again as long as it is surely meant as one: it is
//! labelled, or has a digit in it. Another single word may be a value or just a word, so it gets
//! the benefit of the doubt once. Anything longer is taken for a new message.

use regex::Regex;
use serde_json::{Map, Value};

use crate::agent::{
    Agent, ModelTools, Plan, Situation, Step,
    config::WithModel,
    fill::{Bare, Evidence, Filling, Outcome, Sources},
    parameter::{Certainty, Parameter},
    phrases::Phrases,
    question::question,
    tool::AgentTool,
};

/// The message matches no route: the model answers.
const ANSWER: &str = "answer";
/// The message answers the question that waited.
const FOLLOW_UP: &str = "follow_up";
/// The message corrects the last call.
const CORRECTION: &str = "correction";
/// The message drops the question that waited.
const DROPPED: &str = "dropped";

/// The routes that exist in every agent. A configured one may not bear their names.
pub(super) const RESERVED: [&str; 4] = [ANSWER, FOLLOW_UP, CORRECTION, DROPPED];

/// A configured route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) tool: Option<String>,
    pub(super) keywords: Phrases,
    pub(super) patterns: Vec<Regex>,
    pub(super) with_model: WithModel,
}

impl Route {
    fn matches(&self, text: &str) -> bool {
        self.keywords.is_in(text) || self.patterns.iter().any(|pattern| pattern.is_match(text))
    }
}

impl Agent {
    /// Decides what a turn does.
    ///
    /// The plan's route is one of the configuration's, or `answer` (none matched), `follow_up` (the
    /// message answers the question that waited), `correction` (it changes the last call's
    /// arguments) or `dropped` (the user does not want to answer). Whatever the plan, a question
    /// that waited does so no longer, unless the plan is to ask.
    pub fn route(&self, situation: &Situation<'_>, model_tools: ModelTools) -> Plan {
        let routing = Routing::new(self, situation, model_tools);
        routing
            .reply()
            .or_else(|| routing.correction())
            .or_else(|| routing.request())
            .unwrap_or_else(|| routing.generate(ANSWER))
    }

    /// The tools that `text` rules out.
    pub(super) fn forbidden(&self, text: &str) -> Vec<&str> {
        self.routes
            .iter()
            .filter(|route| route.with_model == WithModel::Forbid && route.matches(text))
            .filter_map(|route| route.tool.as_deref())
            .collect()
    }
}

/// One decision in the making.
struct Routing<'a> {
    agent: &'a Agent,
    situation: &'a Situation<'a>,
    model_tools: ModelTools,
    forbidden: Vec<&'a str>,
    /// The routes that the message matches, in the order of their configuration.
    matches: Vec<&'a Route>,
}

impl<'a> Routing<'a> {
    fn new(agent: &'a Agent, situation: &'a Situation<'a>, model_tools: ModelTools) -> Self {
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

    /// The message as what follows a question.
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
                self.model_tools == ModelTools::Rules && self.is_attempt(&filling, tool)
            }
            (Evidence::Bare, other) => other.is_none(),
            (Evidence::Named, None) => true,
            (Evidence::Named, Some(other)) => filling.is_complete() && !self.is_complete(other),
        };
        is_reply.then(|| self.act(FOLLOW_UP, tool, filling))
    }

    /// Whether what does not suit was meant as an answer.
    fn is_attempt(&self, filling: &Filling<'_>, tool: &AgentTool) -> bool {
        let is_sure = |certainty: Certainty| certainty == Certainty::Sure;
        filling
            .refused
            .iter()
            .any(|refused| is_sure(refused.certainty))
            || (!filling.refused.is_empty() && self.is_first_question(tool))
    }

    /// Whether the question that waits has been put once only: its repetition begins differently.
    fn is_first_question(&self, tool: &AgentTool) -> bool {
        self.situation.pending.is_some_and(|pending| {
            let missing = pending.missing.iter();
            let missing: Vec<&Parameter> =
                missing.filter_map(|name| tool.parameter(name)).collect();
            pending.question == question(&missing, &[])
        })
    }

    /// The message as a correction of the last call.
    fn correction(&self) -> Option<Plan> {
        let (name, arguments) = self.situation.last_call?;
        let tool = self.allowed_tool(name)?;
        let text = self.agent.corrections.strip(self.situation.text)?;
        if self.model_tools == ModelTools::Model || self.other_than(tool).is_some() {
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

    /// The message as a request that a route was made for.
    fn request(&self) -> Option<Plan> {
        let route = self.matches.iter().find(|route| match self.model_tools {
            ModelTools::Rules => true,
            ModelTools::Model => route.with_model == WithModel::Force,
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

    /// The first route that the message matches and that leads elsewhere than to `tool`.
    fn other_than(&self, tool: &AgentTool) -> Option<&'a Route> {
        let mut matches = self.matches.iter().copied();
        matches.find(|route| route.tool.as_deref() != Some(tool.name()))
    }

    /// Whether the message names all that the route's tool needs.
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

    /// Makes a plan of what was found.
    fn act(&self, route: &str, tool: &AgentTool, filling: Filling<'_>) -> Plan {
        let step = match filling.outcome() {
            Outcome::Call(arguments) => Step::Call {
                tool: tool.name().to_owned(),
                arguments,
            },
            Outcome::Ask(follow_up) => Step::Ask(follow_up),
            Outcome::Unusable => {
                // Which value it was stays out of the log: it may be what the user wrote.
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

    /// Lets the model answer, with the tools that it may call.
    fn generate(&self, route: &str) -> Plan {
        let tools = match self.model_tools {
            ModelTools::Rules => Vec::new(),
            ModelTools::Model => {
                let tools = self.agent.tools.values();
                tools
                    .filter(|tool| !self.forbidden.contains(&tool.name()))
                    .map(|tool| tool.offered.clone())
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
