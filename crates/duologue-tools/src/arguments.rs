//! What the tools have in common about their arguments.

use duologue_engine::tool::ToolError;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Reads what the tool's schema has accepted.
pub(crate) fn arguments<T: DeserializeOwned>(arguments: &Value) -> Result<T, ToolError> {
    T::deserialize(arguments).map_err(|error| ToolError::Refused(error.to_string()))
}

/// The schema of the parameter that names an account. Those of signed-in users are UUIDs at most
/// issuers.
pub(crate) fn user_id_schema() -> Value {
    json!({
        "type": "string",
        "title": "user ID",
        "description": "It is `user-` and a number, or a UUID",
        "pattern": "^(user-[0-9]+|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$",
        "examples": ["user-1"],
    })
}
