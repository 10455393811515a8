//! `fetch_account_balance`: what is on an account.

use async_trait::async_trait;
use duologue_engine::tool::{Tool, ToolContext, ToolDefinition, ToolError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::{arguments, user_id_schema};

/// A simulated account.
pub(crate) struct Account {
    pub(crate) user_id: &'static str,
    balance: f64,
    currency: &'static str,
    status: &'static str,
    /// What its owner pays each month, in cents.
    pub(crate) plan_cents: u32,
    pub(crate) plan: &'static str,
}

const ACCOUNTS: [Account; 4] = [
    Account {
        user_id: "user-1",
        balance: 1250.75,
        currency: "USD",
        status: "active",
        plan_cents: 4_900,
        plan: "Team",
    },
    Account {
        user_id: "user-2",
        balance: 87.20,
        currency: "USD",
        status: "active",
        plan_cents: 1_900,
        plan: "Solo",
    },
    Account {
        user_id: "user-3",
        balance: 0.0,
        currency: "EUR",
        status: "closed",
        plan_cents: 1_900,
        plan: "Solo",
    },
    Account {
        user_id: "user-42",
        balance: 98_304.0,
        currency: "EUR",
        status: "active",
        plan_cents: 49_000,
        plan: "Business",
    },
];

/// Finds an account.
pub(crate) fn account(user_id: &str) -> Option<&'static Account> {
    ACCOUNTS.iter().find(|account| account.user_id == user_id)
}

impl Account {
    pub(crate) fn currency(&self) -> &'static str {
        self.currency
    }
}

/// Tells what is on an account.
#[derive(Debug)]
pub struct FetchAccountBalance {
    definition: ToolDefinition,
}

#[derive(Deserialize)]
struct Arguments {
    user_id: String,
}

impl FetchAccountBalance {
    pub(crate) fn new() -> Self {
        Self {
            definition: ToolDefinition {
                name: "fetch_account_balance".into(),
                description: "Fetches the current balance of a user's account.".into(),
                parameters: json!({
                    "type": "object",
                    "properties": { "user_id": user_id_schema() },
                    "required": ["user_id"],
                    "additionalProperties": false,
                }),
            },
        }
    }
}

#[async_trait]
impl Tool for FetchAccountBalance {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn call(&self, value: &Value, _context: &ToolContext) -> Result<Value, ToolError> {
        let Arguments { user_id } = arguments(value)?;
        Ok(match account(&user_id) {
            Some(account) => json!({
                "found": true,
                "user_id": account.user_id,
                "balance": account.balance,
                "currency": account.currency,
                "status": account.status,
            }),
            None => json!({
                "found": false,
                "user_id": user_id,
                "message": format!("There is no account for {user_id}."),
            }),
        })
    }
}
