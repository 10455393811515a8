//! `fetch_invoice`: what an account was billed for a month.

use async_trait::async_trait;
use duologue_engine::tool::{Tool, ToolContext, ToolDefinition, ToolError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    account::account,
    arguments::{arguments, user_id_schema},
};

/// The months for which there are invoices. As text they sort like the months themselves.
const FIRST_MONTH: &str = "2025-01";
const LAST_MONTH: &str = "2026-10";

/// What a thousand messages cost, in cents.
const THOUSAND_MESSAGES_CENTS: u32 = 40;

/// Tells what an account was billed for a month.
#[derive(Debug)]
pub struct FetchInvoice {
    definition: ToolDefinition,
}

#[derive(Deserialize)]
struct Arguments {
    user_id: String,
    month: String,
}

impl FetchInvoice {
    pub(crate) fn new() -> Self {
        Self {
            definition: ToolDefinition {
                name: "fetch_invoice".into(),
                description: "Fetches the invoice of a user's account for one month.".into(),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "user_id": user_id_schema(),
                        "month": {
                            "type": "string",
                            "title": "month",
                            "description": "It is a year and a month, with a hyphen between them",
                            "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$",
                            "examples": ["2026-01"],
                        },
                    },
                    "required": ["user_id", "month"],
                    "additionalProperties": false,
                }),
            },
        }
    }
}

#[async_trait]
impl Tool for FetchInvoice {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn call(&self, value: &Value, _context: &ToolContext) -> Result<Value, ToolError> {
        let arguments: Arguments = arguments(value)?;
        Ok(invoice(&arguments))
    }
}

fn invoice(Arguments { user_id, month }: &Arguments) -> Value {
    let missing = |message: String| json!({ "found": false, "user_id": user_id, "month": month, "message": message });
    let Some(account) = account(user_id) else {
        return missing(format!("There is no account for {user_id}."));
    };
    if !(FIRST_MONTH..=LAST_MONTH).contains(&month.as_str()) {
        return missing(format!(
            "There is no invoice of {user_id} for {month}; there are some from {FIRST_MONTH} to \
             {LAST_MONTH}."
        ));
    }
    let messages_thousands = usage_thousands(month);
    let usage_cents = messages_thousands * THOUSAND_MESSAGES_CENTS;
    let due = f64::from(account.plan_cents + usage_cents) / 100.0;
    json!({
        "found": true,
        "user_id": account.user_id,
        "month": month,
        "invoice_id": format!("INV-{month}-{}", account.user_id),
        "amount": due,
        "currency": account.currency(),
        // The newest one is still to be paid.
        "status": if month == LAST_MONTH { "open" } else { "paid" },
        "lines": [
            { "text": format!("Plan {}", account.plan), "amount": f64::from(account.plan_cents) / 100.0 },
            {
                "text": format!("{} messages", messages_thousands * 1_000),
                "amount": f64::from(usage_cents) / 100.0,
            },
        ],
    })
}

/// How many thousand messages a month saw: some, more in some months than in others, and always the
/// same for the same month.
fn usage_thousands(month: &str) -> u32 {
    let digits = month.bytes().filter(u8::is_ascii_digit);
    digits.fold(0, |sum, digit| (sum * 3 + u32::from(digit - b'0')) % 17) + 3
}
