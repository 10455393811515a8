//! Puts a tool's answer into words.
//!
//! The mock knows the shapes that the built-in tools answer in, not the tools: any tool that answers
//! in such a shape is worded alike, and all others field by field.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::quote::quoted;

/// A shape that the mock knows. The first that fits is taken.
#[derive(Deserialize)]
#[serde(untagged)]
enum Known {
    Error {
        error: String,
    },
    Invoice {
        invoice_id: String,
        user_id: String,
        month: String,
        amount: f64,
        currency: String,
        status: String,
    },
    Balance {
        user_id: String,
        balance: f64,
        currency: String,
    },
    Order {
        order_id: String,
        status: String,
        carrier: Option<String>,
        eta: Option<String>,
    },
    Knowledge {
        answer: String,
    },
    Message {
        message: String,
    },
}

/// A sentence or two for what the tool `name` answered. `content` is JSON text, or was until it was
/// cut.
pub(super) fn tool_answer(name: &str, content: &str) -> String {
    let Ok(value) = serde_json::from_str::<Value>(content) else {
        return format!("{name} answered: {}", quoted(content));
    };
    match Known::deserialize(&value) {
        Ok(known) => known.in_words(name),
        Err(_) => unknown_in_words(name, &value),
    }
}

impl Known {
    fn in_words(self, name: &str) -> String {
        match self {
            Self::Error { error } => format!("I could not get that from {name}: {error}"),
            Self::Invoice {
                invoice_id,
                user_id,
                month,
                amount,
                currency,
                status,
            } => format!(
                "The invoice of {user_id} for {month} is {invoice_id}: {amount:.2} {currency}, \
                 {status}."
            ),
            Self::Balance {
                user_id,
                balance,
                currency,
            } => format!("The account balance of {user_id} is {balance:.2} {currency}."),
            Self::Order {
                order_id,
                status,
                carrier,
                eta,
            } => order_in_words(&order_id, &status, carrier.as_deref(), eta.as_deref()),
            Self::Knowledge { answer } => answer,
            Self::Message { message } => message,
        }
    }
}

fn order_in_words(
    order_id: &str,
    status: &str,
    carrier: Option<&str>,
    eta: Option<&str>,
) -> String {
    let carrier = carrier.map(|carrier| format!(" with {carrier}"));
    let eta = eta.map(|eta| match status {
        "delivered" => format!(" It arrived on {eta}."),
        _ => format!(" It should arrive on {eta}."),
    });
    format!(
        "Order {order_id} is {status}{}.{}",
        carrier.unwrap_or_default(),
        eta.unwrap_or_default()
    )
}

fn unknown_in_words(name: &str, value: &Value) -> String {
    match value {
        Value::Object(fields) if fields.is_empty() => format!("{name} is done."),
        Value::Object(fields) => format!("{name} answered: {}.", fields_in_words(fields)),
        Value::Null => format!("{name} is done."),
        other => format!("{name} answered: {}.", value_in_words(other)),
    }
}

fn fields_in_words(fields: &Map<String, Value>) -> String {
    let fields = fields.iter().map(|(key, value)| {
        let key = key.replace('_', " ");
        format!("{key} {}", value_in_words(value))
    });
    fields.collect::<Vec<_>>().join(", ")
}

fn value_in_words(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        other => quoted(&other.to_string()),
    }
}
