//! One parameter of a tool: how its value is recognised in what people write.
//!
//! Three readings, from the surest to the least: *labelled* (`order_id=ORD-1001`, "my user id is
//! user-1"), *scanned* (a word that only this parameter could mean, by its pattern or its list of
//! choices) and *bare* (the message is the value, since it answers a question). Whichever it is,
//! the parameter's schema has the last word.

use std::ops::ControlFlow;

use jsonschema::Validator;
use regex::Regex;
use serde_json::{Map, Value, json};

use crate::{
    config::{Binding, ParameterConfig},
    phrases::Phrases,
    words::{AROUND, WORD_BYTES_MAX, has_digit, label, words},
};

/// Words and numbers that turn up in any message. A pattern that accepts one of them says too
/// little to recognise a value by.
const ORDINARY: [&str; 14] = [
    "a", "is", "hello", "Hello", "what's", "e-mail", "one_two", "x@y", "1", "42", "2026", "3.5",
    "9:30", "50%",
];

/// A parameter of a tool, compiled.
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// What people call it.
    pub(crate) title: String,
    /// As the tool wrote it.
    pub(crate) schema: Value,
    /// The schema with what it refers to, for messages that explain what is allowed.
    pub(crate) described: Value,
    /// The configured question.
    pub(crate) ask: Option<String>,
    pub(crate) from: Option<Binding>,
    pub(crate) presence: Presence,
    kind: Kind,
    recognition: Recognition,
    label: Regex,
    validator: Validator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Required,
    Optional,
}

/// How text becomes a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    /// Objects and arrays, written as JSON.
    Structured,
}

/// How a value without a label is distinguished from the other words of a message.
enum Recognition {
    /// It cannot be.
    None,
    /// No ordinary word has its form.
    Pattern,
    /// It is one of a few.
    Choices(Vec<(Value, Phrases)>),
}

/// What a text says about a parameter.
#[derive(Debug, PartialEq)]
pub(crate) enum Found<'t> {
    Nothing,
    Value(Value, &'t str),
    /// A value that the schema refuses.
    Refused(&'t str, Certainty),
}

/// Whether a refused word was meant as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certainty {
    Likely,
    Sure,
}

/// A value that its parameter's schema does not accept.
pub(crate) struct Refused<'t> {
    pub(crate) parameter: &'t Parameter,
    pub(crate) given: String,
    pub(crate) certainty: Certainty,
}

impl Parameter {
    /// `shared` holds the `$defs` of the whole schema, which `schema` may refer to. Fails with a
    /// sentence about the schema or the aliases.
    pub(crate) fn new(
        name: &str,
        schema: &Value,
        shared: &Map<String, Value>,
        presence: Presence,
        config: ParameterConfig,
    ) -> Result<Self, String> {
        if config.aliases.iter().any(|alias| alias.trim().is_empty()) {
            return Err("an alias must not be blank".to_owned());
        }
        let mut whole = schema.clone();
        if let Value::Object(whole) = &mut whole {
            whole.extend(shared.clone());
        }
        let validator = jsonschema::validator_for(&whole).map_err(|error| error.to_string())?;
        let described = described(schema, shared);
        let title = match described["title"].as_str() {
            Some(title) => title.to_owned(),
            None => name.replace(['_', '-'], " "),
        };
        let label = label(name, &title, &config.aliases).map_err(|error| error.to_string())?;
        let mut parameter = Self {
            name: name.to_owned(),
            title,
            schema: schema.clone(),
            kind: Kind::of(&described),
            described,
            ask: config.ask,
            from: config.from,
            presence,
            recognition: Recognition::None,
            label,
            validator,
        };
        parameter.recognition = parameter.recognise().map_err(|error| error.to_string())?;
        Ok(parameter)
    }

    fn recognise(&self) -> Result<Recognition, regex::Error> {
        if let Some(choices) = self.described["enum"].as_array() {
            let texts = choices.iter().filter_map(Value::as_str);
            let choices = texts.map(|text| Ok((json!(text), Phrases::new([text])?)));
            return choices.collect::<Result<_, _>>().map(Recognition::Choices);
        }
        let anchored = self.described["pattern"]
            .as_str()
            .is_some_and(|pattern| pattern.starts_with('^') && pattern.ends_with('$'));
        let specific = anchored && ORDINARY.iter().all(|word| self.conform(word).is_none());
        Ok(if specific {
            Recognition::Pattern
        } else {
            Recognition::None
        })
    }

    pub(crate) fn accepts(&self, value: &Value) -> bool {
        self.validator.is_valid(value)
    }

    /// Whether the schema says more than "some text", so that a word which it accepts is likely
    /// meant for it.
    pub(crate) fn is_constrained(&self) -> bool {
        self.kind != Kind::Text || !matches!(self.recognition, Recognition::None)
    }

    /// The value that stands after the parameter's name. `known` is its value so far; another one
    /// is preferred, since people repeat the wrong value when they correct it.
    pub(crate) fn labelled<'t>(&self, text: &'t str, known: Option<&Value>) -> Found<'t> {
        let mut refused = Found::Nothing;
        let mut best = Best::new(known);
        for captures in self.label.captures_iter(text) {
            let quoted = captures.name("double").or(captures.name("single"));
            let given = match (quoted, captures.name("word")) {
                (Some(quoted), _) => quoted.as_str(),
                (None, Some(word)) => self.trimmed(word.as_str()),
                (None, None) => continue,
            };
            if let Some(value) = self.conform(given) {
                if best.offer(value, given).is_break() {
                    break;
                }
            } else if !given.is_empty() {
                // "The order is late" names no order: an alias and "is" alone promise no value.
                let explicit = captures.name("name").is_some() || captures.name("sign").is_some();
                if explicit || has_digit(given) {
                    refused = Found::Refused(given, Certainty::Sure);
                }
            }
        }
        best.found().unwrap_or(refused)
    }

    /// A word of `text` that only this parameter could mean. `taken` words belong to others.
    pub(crate) fn scanned<'t>(
        &self,
        text: &'t str,
        taken: &[&str],
        known: Option<&Value>,
    ) -> Found<'t> {
        let mut best = Best::new(known);
        match &self.recognition {
            Recognition::None => {}
            Recognition::Pattern => {
                for word in words(text).filter(|word| !taken.contains(word)) {
                    if let Some(value) = self.conform(word)
                        && best.offer(value, word).is_break()
                    {
                        break;
                    }
                }
            }
            Recognition::Choices(choices) => {
                for (value, phrases) in choices {
                    if phrases.is_in(text) && best.offer(value.clone(), "").is_break() {
                        break;
                    }
                }
            }
        }
        best.found().unwrap_or(Found::Nothing)
    }

    /// The message as the value itself, where it is a single word.
    pub(crate) fn bare<'t>(&self, text: &'t str) -> Found<'t> {
        let text = text.trim();
        let word = self.trimmed(text);
        let is_word = !word.is_empty() && !word.contains(char::is_whitespace);
        if !is_word || word.len() > WORD_BYTES_MAX || text.ends_with('?') {
            return Found::Nothing;
        }
        match self.conform(word) {
            Some(value) => Found::Value(value, word),
            None if has_digit(word) => Found::Refused(word, Certainty::Sure),
            None => Found::Refused(word, Certainty::Likely),
        }
    }

    /// A word without what a sentence puts around it.
    fn trimmed<'t>(&self, word: &'t str) -> &'t str {
        match self.kind {
            // Brackets and quotation marks are part of JSON.
            Kind::Structured => word.trim_end_matches(['.', '!', '?']),
            _ => word.trim_matches(AROUND),
        }
    }

    /// `text` as a value that the schema accepts, whatever its case if that does not matter to the
    /// schema.
    fn conform(&self, text: &str) -> Option<Value> {
        let accepted = |value: Value| self.accepts(&value).then_some(value);
        match self.kind {
            Kind::Text => accepted(json!(text)).or_else(|| self.conform_case(text)),
            Kind::Integer => accepted(json!(text.parse::<i64>().ok()?)),
            Kind::Number => match text.parse::<i64>() {
                Ok(whole) => accepted(json!(whole)),
                Err(_) => accepted(json!(text.parse::<f64>().ok()?)),
            },
            Kind::Boolean => match text.to_lowercase().as_str() {
                "yes" | "true" | "on" => accepted(json!(true)),
                "no" | "false" | "off" => accepted(json!(false)),
                _ => None,
            },
            Kind::Structured => accepted(serde_json::from_str(text).ok()?),
        }
    }

    /// People write `ord-1001` for `ORD-1001`.
    fn conform_case(&self, text: &str) -> Option<Value> {
        let choices = self.described["enum"].as_array().into_iter().flatten();
        let mut choices = choices.filter_map(Value::as_str);
        if let Some(choice) = choices.find(|choice| choice.to_lowercase() == text.to_lowercase()) {
            return Some(json!(choice));
        }
        let cases = [text.to_uppercase(), text.to_lowercase()];
        let mut values = cases.into_iter().map(Value::String);
        values.find(|value| self.accepts(value))
    }
}

impl Kind {
    fn of(schema: &Value) -> Self {
        let name = match &schema["type"] {
            Value::Array(names) => names.iter().find(|name| *name != "null"),
            name => Some(name),
        };
        match name.and_then(Value::as_str) {
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("boolean") => Self::Boolean,
            Some("object" | "array" | "null") => Self::Structured,
            _ => Self::Text,
        }
    }
}

/// The first value that is offered, unless it is the known one and another follows.
struct Best<'k, 't> {
    known: Option<&'k Value>,
    first: Option<(Value, &'t str)>,
}

impl<'k, 't> Best<'k, 't> {
    fn new(known: Option<&'k Value>) -> Self {
        Self { known, first: None }
    }

    /// Breaks where no better one can follow.
    fn offer(&mut self, value: Value, word: &'t str) -> ControlFlow<()> {
        let is_new = self.known != Some(&value);
        if is_new || self.first.is_none() {
            self.first = Some((value, word));
        }
        if is_new {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn found(self) -> Option<Found<'t>> {
        self.first.map(|(value, word)| Found::Value(value, word))
    }
}

/// A property's schema together with the definition that it refers to, if it does.
fn described(schema: &Value, shared: &Map<String, Value>) -> Value {
    let definition = schema["$ref"].as_str().and_then(|reference| {
        let (key, name) = reference.strip_prefix("#/")?.split_once('/')?;
        shared.get(key)?.get(name)?.as_object()
    });
    match (definition, schema.as_object()) {
        (Some(definition), Some(own)) => {
            let mut described = definition.clone();
            described.extend(own.clone());
            described.into()
        }
        _ => schema.clone(),
    }
}
