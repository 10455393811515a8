//! Slot filling: finds the arguments of a tool call in a message.
//!
//! A tool's JSON Schema lists the required arguments. Their values come from the agent's bindings, from
//! the user's message, and from earlier messages; the user is asked for those that are still missing.

use duologue_protocol::{FollowUp, UserId};
use serde_json::{Map, Value, json};

use crate::{
    config::Binding,
    parameter::{Certainty, Found, Parameter, Refused},
    question::question,
    tool::AgentTool,
};

/// The sources of values.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    pub(crate) text: &'a str,
    pub(crate) user_id: &'a UserId,
    /// The arguments that are known already; what `text` says replaces them.
    pub(crate) known: &'a Map<String, Value>,
    pub(crate) bare: Bare,
}

/// Whether a message of a single word may be the one value that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bare {
    /// It may: it follows the question for it.
    Accepted,
    Ignored,
}

/// How strongly a text speaks of a tool's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Evidence {
    /// Nothing in it is a value.
    None,
    /// The whole message was taken for a value, and the schema would have taken any.
    Bare,
    /// A value is named, or unmistakable.
    Named,
}

/// What can be done with what was found.
pub(crate) enum Outcome {
    /// The schema accepts these arguments.
    Call(Value),
    Ask(FollowUp),
    /// The schema refuses what cannot be asked for: the session's user id, for example, or values
    /// that suit one by one but not together.
    Unusable,
}

/// The arguments found so far for a call.
pub(crate) struct Filling<'t> {
    pub(crate) arguments: Map<String, Value>,
    pub(crate) evidence: Evidence,
    pub(crate) refused: Vec<Refused<'t>>,
    tool: &'t AgentTool,
}

impl<'t> Filling<'t> {
    /// Looks for the arguments of `tool` in all sources.
    pub(crate) fn new(tool: &'t AgentTool, sources: Sources<'_>) -> Self {
        let mut filling = Self {
            arguments: sources.known.clone(),
            evidence: Evidence::None,
            refused: Vec::new(),
            tool,
        };
        filling.bind(sources);
        filling.read(sources.text);
        if sources.bare == Bare::Accepted {
            filling.read_bare(sources.text);
        }
        filling
    }

    /// Sets what the agent's configuration takes from elsewhere.
    fn bind(&mut self, sources: Sources<'_>) {
        for parameter in &self.tool.parameters {
            let name = parameter.name.clone();
            match parameter.from {
                // Whatever user id the text or a model contains, the session is this user's.
                Some(Binding::User) => {
                    self.arguments.insert(name, json!(sources.user_id.as_str()));
                }
                Some(Binding::Message) => {
                    let message = || json!(sources.text.trim());
                    self.arguments.entry(name).or_insert_with(message);
                }
                None => {}
            }
        }
    }

    /// Takes what the text says: first what is labelled, then what only one parameter could mean,
    /// so that a word which a label gives to one parameter is not taken for another.
    fn read(&mut self, text: &str) {
        let mut taken = Vec::new();
        let mut unlabelled = Vec::new();
        for parameter in self.tool.parameters.iter().filter(|p| p.from.is_none()) {
            let known = self.arguments.get(&parameter.name);
            match parameter.labelled(text, known) {
                Found::Value(value, word) => {
                    taken.push(word);
                    self.take(parameter, value);
                }
                refused_or_nothing => unlabelled.push((parameter, refused_or_nothing)),
            }
        }
        for (parameter, labelled) in unlabelled {
            let known = self.arguments.get(&parameter.name);
            match (parameter.scanned(text, &taken, known), labelled) {
                (Found::Value(value, word), _) => {
                    taken.push(word);
                    self.take(parameter, value);
                }
                (_, Found::Refused(given, certainty)) => self.refuse(parameter, given, certainty),
                _ => {}
            }
        }
    }

    /// Takes the whole text for the only missing value, if it says nothing else.
    fn read_bare(&mut self, text: &str) {
        let missing = self.missing();
        let [only] = missing.as_slice() else { return };
        if self.evidence != Evidence::None || !self.refused.is_empty() {
            return;
        }
        match only.bare(text) {
            Found::Value(value, _) => {
                self.take(only, value);
                if !only.is_constrained() {
                    self.evidence = Evidence::Bare;
                }
            }
            Found::Refused(given, certainty) => self.refuse(only, given, certainty),
            Found::Nothing => {}
        }
    }

    fn take(&mut self, parameter: &Parameter, value: Value) {
        self.arguments.insert(parameter.name.clone(), value);
        self.evidence = Evidence::Named;
    }

    fn refuse(&mut self, parameter: &'t Parameter, given: &str, certainty: Certainty) {
        self.refused.push(Refused {
            parameter,
            given: given.to_owned(),
            certainty,
        });
    }

    /// The required parameters without a value.
    pub(crate) fn missing(&self) -> Vec<&'t Parameter> {
        let required = self.tool.required();
        required
            .filter(|parameter| !self.arguments.contains_key(&parameter.name))
            .collect()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.missing().is_empty() && self.refused.is_empty()
    }

    /// Decides what to do with what was found.
    pub(crate) fn outcome(self) -> Outcome {
        if !self.bound_values_suit() {
            return Outcome::Unusable;
        }
        let asked = self.asked();
        if !asked.is_empty() {
            return Outcome::Ask(follow_up(
                self.tool,
                &asked,
                question(&asked, &self.refused),
                self.arguments,
            ));
        }
        let arguments = Value::Object(self.arguments);
        match self.tool.objection(&arguments) {
            None => Outcome::Call(arguments),
            Some(_) => Outcome::Unusable,
        }
    }

    /// The missing parameters, and those whose new value was refused.
    fn asked(&self) -> Vec<&'t Parameter> {
        let mut asked = self.missing();
        for refused in &self.refused {
            if !asked
                .iter()
                .any(|asked| asked.name == refused.parameter.name)
            {
                asked.push(refused.parameter);
            }
        }
        asked
    }

    fn bound_values_suit(&self) -> bool {
        let bound = self.tool.parameters.iter().filter(|p| p.from.is_some());
        bound
            .filter_map(|parameter| Some((parameter, self.arguments.get(&parameter.name)?)))
            .all(|(parameter, value)| parameter.accepts(value))
    }
}

/// Asks for `asked`. What is known of them already is forgotten, since it was wrong.
pub(crate) fn follow_up(
    tool: &AgentTool,
    asked: &[&Parameter],
    question: String,
    mut arguments: Map<String, Value>,
) -> FollowUp {
    for parameter in asked {
        arguments.remove(&parameter.name);
    }
    let missing: Vec<String> = asked
        .iter()
        .map(|parameter| parameter.name.clone())
        .collect();
    let properties: Map<String, Value> = asked
        .iter()
        .map(|parameter| (parameter.name.clone(), parameter.schema.clone()))
        .collect();
    let mut schema = tool.shared.clone();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), properties.into());
    schema.insert("required".into(), json!(missing));
    schema.insert("additionalProperties".into(), json!(false));
    FollowUp {
        tool: tool.name().to_owned(),
        missing,
        question,
        schema: schema.into(),
        arguments: arguments.into(),
    }
}
