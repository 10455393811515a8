//! Values of settings: how they are read, and how messages name their kinds.

use jiff::SignedDuration;
use toml::Value;

/// How a zero is refused where it makes no sense.
pub(super) const MORE_THAN_ZERO: &str = "must be more than zero";

/// Reads a variable's text as a value of the kind that the key has by default.
///
/// Lists may be written as in TOML, or separated by commas.
pub(super) fn parse(text: &str, default: &Value) -> Option<Value> {
    match default {
        Value::String(_) => Some(text.into()),
        Value::Array(_) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim);
            let items = items.filter(|item| !item.is_empty());
            Some(Value::Array(items.map(Value::from).collect()))
        }
        _ => text.trim().parse().ok(),
    }
}

/// The duration that a text denotes, if it denotes one.
pub(super) fn duration(value: &Value) -> Option<SignedDuration> {
    value.as_str()?.parse().ok()
}

/// What a key holds, where it holds durations.
pub(super) fn expected_form(default: &Value) -> Option<&'static str> {
    match default {
        Value::Array(items) if items.iter().any(|item| duration(item).is_some()) => {
            Some("a list of durations, such as [\"30s\", \"2m\"]")
        }
        default => duration(default).map(|_| "a duration, such as \"500ms\", \"30s\" or \"2h\""),
    }
}

/// A deserializer's message as the end of a sentence that has named the value.
pub(super) fn reason(message: &str) -> String {
    let message = message.trim_end();
    if message.contains("integer `0`, expected a nonzero") {
        return MORE_THAN_ZERO.to_owned();
    }
    let expected = message.rsplit_once("expected ").map(|(_, kind)| kind);
    match expected {
        Some("u16") => format!("must be from 0 to {}", u16::MAX),
        Some("a nonzero u16") => format!("must be from 1 to {}", u16::MAX),
        Some("u32") => format!("must be from 0 to {}", u32::MAX),
        Some("a nonzero u32") => format!("must be from 1 to {}", u32::MAX),
        _ => format!("cannot be used: {message}"),
    }
}

pub(super) fn is_same_kind(default: &Value, given: &Value) -> bool {
    match given {
        Value::Array(items) => default.is_array() && items.iter().all(Value::is_str),
        _ => default.same_type(given),
    }
}

/// What a key holds, as the end of "must be …".
pub(super) fn kind(default: &Value) -> &'static str {
    match default {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date and time",
        Value::Array(_) => "a list of strings",
        Value::Table(_) => "a section",
    }
}
