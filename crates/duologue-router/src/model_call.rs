//! Checks a call that a model requests.
//!
//! A model may only call the agent's tools, with arguments that the tool's schema accepts. If they are
//! wrong, it receives the reason and can correct them; the user is asked for missing values.

use duologue_engine::agent::{Checked, Situation};
use serde_json::{Map, Value, json};

use crate::{
    agent::RuleAgent,
    config::Binding,
    question::{question, rule, shown},
    slot_filling::{Bare, Filling, Sources, follow_up},
    tool::{AgentTool, Others},
};

/// Decides what becomes of a model's call of `tool`.
pub(crate) fn check(
    agent: &RuleAgent,
    tool: &str,
    arguments: &Value,
    situation: &Situation<'_>,
) -> Checked {
    let forbidden = agent.forbidden(situation.text);
    let is_allowed = |name: &str| !forbidden.contains(&name);
    let known = agent.tools.get(tool);
    let Some(tool) = known.filter(|tool| is_allowed(tool.name())) else {
        let names = agent.tools.keys().map(String::as_str);
        return no_such_tool(
            tool,
            &names.filter(|name| is_allowed(name)).collect::<Vec<_>>(),
        );
    };
    let Value::Object(arguments) = arguments else {
        let name = tool.name();
        return Checked::Refused(format!("The arguments of `{name}` must be a JSON object."));
    };
    check_arguments(tool, given(tool, arguments), situation)
}

fn no_such_tool(tool: &str, names: &[&str]) -> Checked {
    let tool = shown(tool);
    Checked::Refused(match names {
        [] => format!("There is no tool `{tool}`, and no other can be called now."),
        names => format!(
            "There is no tool `{tool}` that can be called now. There are: {}.",
            names.join(", ")
        ),
    })
}

/// The arguments that the model has given. Models write `null` or an empty text where they have no
/// value; that counts as none, unless the schema knows it.
fn given(tool: &AgentTool, arguments: &Map<String, Value>) -> Map<String, Value> {
    let is_value = |name: &str, value: &Value| {
        let is_empty = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
        let parameter = tool.parameter(name);
        !is_empty || parameter.is_some_and(|parameter| parameter.accepts(value))
    };
    arguments
        .iter()
        .filter(|(name, value)| is_value(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn check_arguments(
    tool: &AgentTool,
    mut arguments: Map<String, Value>,
    situation: &Situation<'_>,
) -> Checked {
    for parameter in &tool.parameters {
        if parameter.from == Some(Binding::User) {
            arguments.insert(parameter.name.clone(), json!(situation.user_id.as_str()));
        }
    }
    let objections = objections(tool, &arguments);
    if !objections.is_empty() {
        return Checked::Refused(objections.join(" "));
    }
    complete(tool, arguments, situation)
}

/// What is wrong with single arguments.
fn objections(tool: &AgentTool, arguments: &Map<String, Value>) -> Vec<String> {
    let objection = |(name, value): (&String, &Value)| match tool.parameter(name) {
        Some(parameter) if parameter.accepts(value) => None,
        Some(parameter) => {
            let value = shown(&value.to_string());
            let objection = format!("`{name}` cannot be {value}.");
            let rule = rule(&parameter.described);
            Some([objection, rule].join(" ").trim_end().to_owned())
        }
        None if tool.others == Others::Described => None,
        None => {
            let names: Vec<&str> = tool.parameters.iter().map(|p| p.name.as_str()).collect();
            let (unknown, known) = (shown(name), names.join(", "));
            Some(format!(
                "There is no parameter `{unknown}`. There are: {known}."
            ))
        }
    };
    arguments.iter().filter_map(objection).collect()
}

/// Finds the required arguments that the model has left out, or asks for them.
fn complete(
    tool: &AgentTool,
    mut arguments: Map<String, Value>,
    situation: &Situation<'_>,
) -> Checked {
    let pending = situation
        .pending
        .filter(|pending| pending.tool == tool.name());
    let none = Map::new();
    let filling = Filling::new(
        tool,
        Sources {
            text: situation.text,
            user_id: situation.user_id,
            known: pending
                .and_then(|p| p.arguments.as_object())
                .unwrap_or(&none),
            bare: match pending {
                Some(_) => Bare::Accepted,
                None => Bare::Ignored,
            },
        },
    );
    let mut missing = Vec::new();
    for parameter in tool.required() {
        if arguments.contains_key(&parameter.name) {
            continue;
        }
        match filling.arguments.get(&parameter.name) {
            Some(value) => {
                arguments.insert(parameter.name.clone(), value.clone());
            }
            None => missing.push(parameter),
        }
    }
    if !missing.is_empty() {
        let question = question(&missing, &[]);
        return Checked::Ask(follow_up(tool, &missing, question, arguments));
    }
    let arguments = Value::Object(arguments);
    match tool.objection(&arguments) {
        None => Checked::Call(arguments),
        Some(objection) => Checked::Refused(objection),
    }
}
