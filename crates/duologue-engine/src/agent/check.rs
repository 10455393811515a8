//! What becomes of a call that a model asks for.
//!
//! A model may only call what the agent has, with arguments that the tool's schema accepts. It is
//! told what is wrong, so that it can do better; a value that only the user knows is asked for.

use serde_json::{Map, Value, json};

use crate::agent::{
    Agent, Checked, Situation,
    config::Binding,
    fill::{Bare, Filling, Sources, follow_up},
    question::{question, rule, shown},
    tool::{AgentTool, Others},
};

impl Agent {
    /// Decides what becomes of a model's call of `tool`.
    ///
    /// Required arguments that it lacks are taken from where [`Agent::route`] would take them. An
    /// argument that is bound to the session's user is always the session's user.
    pub fn check(&self, tool: &str, arguments: &Value, situation: &Situation<'_>) -> Checked {
        let forbidden = self.forbidden(situation.text);
        let is_allowed = |name: &str| !forbidden.contains(&name);
        let Some(tool) = self.tools.get(tool).filter(|tool| is_allowed(tool.name())) else {
            let names = self.tools.keys().map(String::as_str);
            let names: Vec<&str> = names.filter(|name| is_allowed(name)).collect();
            let tool = shown(tool);
            return Checked::Refused(match names.as_slice() {
                [] => format!("There is no tool `{tool}`, and no other can be called now."),
                names => format!(
                    "There is no tool `{tool}` that can be called now. There are: {}.",
                    names.join(", ")
                ),
            });
        };
        let Value::Object(arguments) = arguments else {
            let name = tool.name();
            return Checked::Refused(format!("The arguments of `{name}` must be a JSON object."));
        };
        check(tool, given(tool, arguments), situation)
    }
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

fn check(
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
