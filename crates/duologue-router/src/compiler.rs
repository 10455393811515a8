//! Compiles an agent from its configuration, or reports what is wrong with it.

use std::{collections::BTreeMap, sync::Arc};

use duologue_engine::tool::Tool;
use regex::Regex;

use crate::{
    agent::RuleAgent,
    config::{AgentConfig, Binding, RouteConfig, ToolConfig, WithModel},
    error::AgentError,
    phrases::Phrases,
    route::{RESERVED, Route},
    tool::AgentTool,
};

impl RuleAgent {
    /// Reads an agent from TOML. Of `tools`, it has those that its configuration names.
    pub fn from_toml(text: &str, tools: &[Arc<dyn Tool>]) -> Result<Self, AgentError> {
        let config = toml::from_str(text).map_err(AgentError::Unreadable)?;
        Self::build(config, tools)
    }

    /// The same for a server whose authentication is disabled. There a user id proves nothing, so
    /// bindings to the user are ignored: the value is found in what users write, and asked for, like
    /// any other.
    pub fn from_toml_without_authentication(
        text: &str,
        tools: &[Arc<dyn Tool>],
    ) -> Result<Self, AgentError> {
        let mut config: AgentConfig = toml::from_str(text).map_err(AgentError::Unreadable)?;
        let tools_of_config = config.tools.values_mut();
        for parameter in tools_of_config.flat_map(|tool| tool.parameters.values_mut()) {
            parameter.from.take_if(|from| *from == Binding::User);
        }
        Self::build(config, tools)
    }

    fn build(config: AgentConfig, tools: &[Arc<dyn Tool>]) -> Result<Self, AgentError> {
        for (key, value) in [
            ("name", &config.name),
            ("prompt", &config.prompt),
            ("summary_prompt", &config.summary_prompt),
        ] {
            if value.trim().is_empty() {
                return Err(invalid(key, "it must not be blank"));
            }
        }
        let tools = agent_tools(config.tools, tools)?;
        let routes = agent_routes(config.routes, &tools)?;
        let (drop_phrases, drop_words): (Vec<String>, Vec<String>) = config
            .phrases
            .drops
            .into_iter()
            .partition(|drop| drop.trim().contains(char::is_whitespace));
        Ok(Self {
            name: config.name,
            prompt: config.prompt.into(),
            summary_prompt: config.summary_prompt.into(),
            corrections: phrases("phrases.corrections", &config.phrases.corrections)?,
            drop_phrases: phrases("phrases.drops", &drop_phrases)?,
            drop_words: phrases("phrases.drops", &drop_words)?,
            routes,
            tools,
        })
    }
}

fn agent_tools(
    configs: BTreeMap<String, ToolConfig>,
    tools: &[Arc<dyn Tool>],
) -> Result<BTreeMap<String, AgentTool>, AgentError> {
    let mut agent_tools = BTreeMap::new();
    for (name, config) in configs {
        let key = format!("tools.{name}");
        let mut candidates = tools.iter().filter(|tool| tool.definition().name == name);
        let Some(tool) = candidates.next() else {
            let names = tools.iter().map(|tool| tool.definition().name.as_str());
            return Err(invalid(key, unknown_tool(names)));
        };
        if candidates.next().is_some() {
            return Err(invalid(key, "two tools have this name"));
        }
        if !is_tool_name(&name) {
            let problem = "a tool's name has 1 to 64 characters of `a-z A-Z 0-9 _ -`";
            return Err(invalid(key, problem));
        }
        let tool = AgentTool::new(tool, config).map_err(|flaw| {
            let key = match flaw.key {
                Some(below) => format!("{key}.{below}"),
                None => key,
            };
            invalid(key, flaw.problem)
        })?;
        agent_tools.insert(name, tool);
    }
    Ok(agent_tools)
}

fn agent_routes(
    configs: Vec<RouteConfig>,
    tools: &BTreeMap<String, AgentTool>,
) -> Result<Vec<Route>, AgentError> {
    let mut routes: Vec<Route> = Vec::with_capacity(configs.len());
    for (index, route) in configs.into_iter().enumerate() {
        if route.name.trim().is_empty() {
            let key = format!("routes[{index}].name");
            return Err(invalid(key, "it must not be blank"));
        }
        if routes.iter().any(|other| other.name == route.name) {
            let key = format!("routes.{}", route.name);
            return Err(invalid(
                key,
                "two routes have this name; rename one of them",
            ));
        }
        routes.push(agent_route(route, tools)?);
    }
    Ok(routes)
}

fn agent_route(
    config: RouteConfig,
    tools: &BTreeMap<String, AgentTool>,
) -> Result<Route, AgentError> {
    let key = |below: &str| format!("routes.{}.{below}", config.name);
    if RESERVED.contains(&config.name.as_str()) {
        let problem = format!(
            "these names have a meaning of their own: {}",
            RESERVED.join(", ")
        );
        return Err(invalid(key("name"), problem));
    }
    match &config.tool {
        Some(tool) if !tools.contains_key(tool) => {
            let problem = unknown_tool(tools.keys().map(String::as_str));
            return Err(invalid(key("tool"), problem));
        }
        None if config.with_model == WithModel::Forbid => {
            let problem = "`forbid` keeps a tool from being used; name it as `tool`";
            return Err(invalid(key("with_model"), problem));
        }
        _ => {}
    }
    if config.keywords.is_empty() && config.patterns.is_empty() {
        let problem = "it is never taken; give it a keyword or a pattern";
        return Err(invalid(key("keywords"), problem));
    }
    let keywords = phrases(key("keywords"), &config.keywords)?;
    let patterns = config
        .patterns
        .iter()
        .map(|pattern| {
            Regex::new(pattern).map_err(|error| invalid(key("patterns"), error.to_string()))
        })
        .collect::<Result<_, _>>()?;
    Ok(Route {
        keywords,
        patterns,
        with_model: config.with_model,
        tool: config.tool,
        name: config.name,
    })
}

fn phrases(key: impl Into<String>, phrases: &[String]) -> Result<Phrases, AgentError> {
    if phrases.iter().any(|phrase| phrase.trim().is_empty()) {
        return Err(invalid(key, "a blank phrase would be in every message"));
    }
    Phrases::new(phrases.iter().map(String::as_str))
        .map_err(|error| invalid(key, error.to_string()))
}

fn unknown_tool<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.as_slice() {
        [] => "there is no such tool, and no other".to_owned(),
        names => format!("there is no such tool; there are: {}", names.join(", ")),
    }
}

fn is_tool_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(is_allowed)
}

fn invalid(key: impl Into<String>, problem: impl Into<String>) -> AgentError {
    AgentError::Invalid {
        key: key.into(),
        problem: problem.into(),
    }
}
