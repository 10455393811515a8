//! The words in which the agent asks for what is missing, and says what is allowed.
//!
//! They are made from the parameters' schemas, so that the same question is always put the same way
//! and needs no model.

use serde_json::Value;

use crate::parameter::{Parameter, Refused};

/// The longest part of a user's text that is repeated, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// Asks for `missing`, which is not empty, after saying what was wrong with `refused`.
pub(crate) fn question(missing: &[&Parameter], refused: &[Refused<'_>]) -> String {
    let mut sentences: Vec<String> = refused
        .iter()
        .map(|refused| {
            let given = shown(&refused.given);
            let title = &refused.parameter.title;
            let complaint = format!("`{given}` is not a valid {title}.");
            [complaint, rule(&refused.parameter.described)]
                .join(" ")
                .trim_end()
                .to_owned()
        })
        .collect();
    sentences.push(match missing {
        [one] if !refused.is_empty() => format!("What is the {}?", one.title),
        [one] => match &one.ask {
            Some(ask) => ask.clone(),
            None => format!("What is {}?", list(missing)),
        },
        several => format!("What are {}?", list(several)),
    });
    sentences.join(" ")
}

/// "the user ID (for example user-1) and the month (for example 2026-01)"
fn list(parameters: &[&Parameter]) -> String {
    let names: Vec<String> = parameters
        .iter()
        .map(|parameter| match example(&parameter.described) {
            Some(example) => format!("the {} (for example {example})", parameter.title),
            None => format!("the {}", parameter.title),
        })
        .collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// What a schema allows, in a sentence or two. Empty where it does not say.
pub(crate) fn rule(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        let choices: Vec<String> = choices.iter().map(plain).collect();
        return format!("It must be one of: {}.", choices.join(", "));
    }
    let must_be = match schema["type"].as_str() {
        Some("integer") => format!("It must be a whole number{}.", range(schema)),
        Some("number") => format!("It must be a number{}.", range(schema)),
        Some("boolean") => "It must be yes or no.".to_owned(),
        _ => text_rule(schema),
    };
    let example = example(schema).map(|example| format!("For example: {example}."));
    [must_be, example.unwrap_or_default()]
        .join(" ")
        .trim()
        .to_owned()
}

fn text_rule(schema: &Value) -> String {
    if let Some(description) = schema["description"].as_str() {
        let description = description.trim().trim_end_matches('.');
        return format!("{description}.");
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        return format!("It must match the pattern `{pattern}`.");
    }
    match (schema["minLength"].as_u64(), schema["maxLength"].as_u64()) {
        (Some(min), Some(max)) => format!("It must have {min} to {max} characters."),
        (Some(min), None) => format!("It must have at least {min} characters."),
        (None, Some(max)) => format!("It must have at most {max} characters."),
        (None, None) => String::new(),
    }
}

fn range(schema: &Value) -> String {
    let bound = |key: &str| match &schema[key] {
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let min = bound("minimum");
    let max = bound("maximum");
    let above = bound("exclusiveMinimum");
    let below = bound("exclusiveMaximum");
    match (min, max) {
        (Some(min), Some(max)) => format!(" from {min} to {max}"),
        (min, max) => {
            let limits = [
                min.map(|min| format!("at least {min}")),
                above.map(|above| format!("more than {above}")),
                max.map(|max| format!("at most {max}")),
                below.map(|below| format!("less than {below}")),
            ];
            let limits: Vec<String> = limits.into_iter().flatten().collect();
            match limits.join(" and ") {
                limits if limits.is_empty() => limits,
                limits => format!(", {limits}"),
            }
        }
    }
}

fn example(schema: &Value) -> Option<String> {
    schema["examples"].get(0).map(plain)
}

/// A value as people write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A piece of a user's or a model's text, short enough to be repeated in a sentence.
pub(crate) fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    text.chars()
        .take(SHOWN_CHARS_MAX)
        .chain(['\u{2026}'])
        .collect()
}
