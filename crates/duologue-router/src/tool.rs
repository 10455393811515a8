//! A tool of an agent: its definition, compiled, with the agent's settings for its parameters.

use std::{collections::BTreeMap, sync::Arc};

use duologue_engine::tool::{OfferedTool, Tool, ToolDefinition};
use jsonschema::Validator;
use serde_json::{Map, Value};

use crate::{
    config::{Binding, ParameterConfig, ToolConfig},
    parameter::{Parameter, Presence},
};

/// A tool of an agent, compiled.
pub(crate) struct AgentTool {
    pub(crate) tool: Arc<dyn Tool>,
    pub(crate) is_idempotent: bool,
    /// What a model receives: the definition without the parameters that are bound to the user.
    pub(crate) offered: Arc<OfferedTool>,
    /// The required ones first, in the schema's order.
    pub(crate) parameters: Vec<Parameter>,
    /// The `$defs` of the schema, which its properties may refer to.
    pub(crate) shared: Map<String, Value>,
    pub(crate) others: Others,
    validator: Validator,
}

/// What the schema says of arguments that it does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    Refused,
    /// It asks for them, or says what they must be; its validator decides.
    Described,
}

/// What is wrong with a tool's definition or settings, and where.
#[derive(Debug)]
pub(crate) struct Flaw {
    /// The key below `tools.NAME`, or nothing where the definition itself is wrong.
    pub(crate) key: Option<String>,
    pub(crate) problem: String,
}

impl AgentTool {
    pub(crate) fn new(tool: &Arc<dyn Tool>, config: ToolConfig) -> Result<Self, Flaw> {
        let definition = tool.definition();
        let schema = &definition.parameters;
        let flaw = |problem: String| Flaw { key: None, problem };
        if schema["type"] != "object" {
            return Err(flaw("its schema must have the type `object`".into()));
        }
        let validator = jsonschema::validator_for(schema)
            .map_err(|error| flaw(format!("its schema is not valid: {error}")))?;
        let shared = shared_definitions(schema);
        let parameters = parameters(schema, &shared, config.parameters)?;
        Ok(Self {
            tool: Arc::clone(tool),
            is_idempotent: config.idempotent.unwrap_or_else(|| tool.is_idempotent()),
            offered: Arc::new(OfferedTool::new(offered(definition, &parameters))),
            parameters,
            shared,
            others: Others::of(schema),
            validator,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.tool.definition().name
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&Parameter> {
        let mut parameters = self.parameters.iter();
        parameters.find(|parameter| parameter.name == name)
    }

    pub(crate) fn required(&self) -> impl Iterator<Item = &Parameter> {
        let parameters = self.parameters.iter();
        parameters.filter(|parameter| parameter.presence == Presence::Required)
    }

    /// The only parameter that users give, if no word but a value of it would do.
    pub(crate) fn only_recognisable(&self) -> Option<&Parameter> {
        let mut given = self.parameters.iter().filter(|p| p.from.is_none());
        let only = given.next()?;
        (given.next().is_none() && only.is_constrained()).then_some(only)
    }

    /// Says what is wrong with the arguments as a whole, if something is.
    pub(crate) fn objection(&self, arguments: &Value) -> Option<String> {
        let error = self.validator.validate(arguments).err()?;
        Some(error.to_string())
    }
}

impl Others {
    fn of(schema: &Value) -> Self {
        let described = matches!(
            schema["additionalProperties"],
            Value::Bool(true) | Value::Object(_)
        ) || schema["patternProperties"].is_object();
        if described {
            Self::Described
        } else {
            Self::Refused
        }
    }
}

fn parameters(
    schema: &Value,
    shared: &Map<String, Value>,
    mut settings: BTreeMap<String, ParameterConfig>,
) -> Result<Vec<Parameter>, Flaw> {
    let none = Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&none);
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if let Some(name) = required
        .iter()
        .find(|name| !properties.contains_key(**name))
    {
        return Err(Flaw {
            key: None,
            problem: format!("its schema requires `{name}` without describing it"),
        });
    }
    if let Some(unknown) = settings.keys().find(|name| !properties.contains_key(*name)) {
        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
        let problem = format!(
            "the tool has no such parameter; it has: {}",
            names.join(", ")
        );
        return Err(Flaw {
            key: Some(format!("parameters.{unknown}")),
            problem,
        });
    }
    let optional = properties
        .keys()
        .map(String::as_str)
        .filter(|name| !required.contains(name));
    required
        .iter()
        .map(|name| (*name, Presence::Required))
        .chain(optional.map(|name| (name, Presence::Optional)))
        .map(|(name, presence)| {
            let config = settings.remove(name).unwrap_or_default();
            Parameter::new(name, &properties[name], shared, presence, config).map_err(|problem| {
                Flaw {
                    key: Some(format!("parameters.{name}")),
                    problem,
                }
            })
        })
        .collect()
}

fn shared_definitions(schema: &Value) -> Map<String, Value> {
    ["$defs", "definitions"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), schema.get(key)?.clone())))
        .collect()
}

/// The definition without the parameters that are taken from the session.
fn offered(definition: &ToolDefinition, parameters: &[Parameter]) -> ToolDefinition {
    let mut offered = definition.clone();
    let hidden = parameters
        .iter()
        .filter(|parameter| parameter.from == Some(Binding::User));
    for parameter in hidden {
        if let Some(properties) = offered.parameters["properties"].as_object_mut() {
            properties.remove(&parameter.name);
        }
        if let Some(required) = offered.parameters["required"].as_array_mut() {
            required.retain(|name| *name != parameter.name.as_str());
        }
    }
    offered
}
