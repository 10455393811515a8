//! The tools that the built-in agent uses: a knowledge base, and simulated accounts, orders and
//! invoices.
//!
//! They are a demonstration that always works: what they know is in their tables, they do no IO,
//! and the same arguments always get the same answer. For real accounts, write a
//! [`Tool`] of the same shape.

mod account;
mod invoice;
mod knowledge;
mod order;

use std::sync::Arc;

use duologue_engine::tool::{Tool, ToolError};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub use crate::{
    account::FetchAccountBalance, invoice::FetchInvoice, knowledge::KnowledgeBaseLookup,
    order::FetchOrderStatus,
};

/// All tools of this crate.
pub fn builtin() -> Vec<Arc<dyn Tool>> {
    vec![
        Arc::new(KnowledgeBaseLookup::new()),
        Arc::new(FetchAccountBalance::new()),
        Arc::new(FetchOrderStatus::new()),
        Arc::new(FetchInvoice::new()),
    ]
}

/// Reads what the tool's schema has accepted.
fn arguments<T: DeserializeOwned>(arguments: &Value) -> Result<T, ToolError> {
    T::deserialize(arguments).map_err(|error| ToolError::Refused(error.to_string()))
}

/// The schema of the parameter that names an account. Those of signed-in users are UUIDs at most
/// issuers.
fn user_id_schema() -> Value {
    json!({
        "type": "string",
        "title": "user ID",
        "description": "It is `user-` and a number, or a UUID",
        "pattern": "^(user-[0-9]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$",
        "examples": ["user-1"],
    })
}
