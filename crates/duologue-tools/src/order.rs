//! `fetch_order_status`: where an order is.

use async_trait::async_trait;
use duologue_engine::tool::{Tool, ToolContext, ToolDefinition, ToolError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::arguments::arguments;

/// A simulated order.
struct Order {
    id: &'static str,
    status: &'static str,
    items: u32,
    carrier: Option<&'static str>,
    /// The day of delivery: expected, or past where it is delivered.
    eta: Option<&'static str>,
}

const ORDERS: [Order; 4] = [
    Order {
        id: "ORD-1001",
        status: "shipped",
        items: 2,
        carrier: Some("DHL"),
        eta: Some("2026-12-03"),
    },
    Order {
        id: "ORD-1002",
        status: "processing",
        items: 1,
        carrier: None,
        eta: Some("2026-12-09"),
    },
    Order {
        id: "ORD-1003",
        status: "delivered",
        items: 5,
        carrier: Some("UPS"),
        eta: Some("2026-11-14"),
    },
    Order {
        id: "ORD-1004",
        status: "cancelled",
        items: 1,
        carrier: None,
        eta: None,
    },
];

/// Tells where an order is.
#[derive(Debug)]
pub struct FetchOrderStatus {
    definition: ToolDefinition,
}

#[derive(Deserialize)]
struct Arguments {
    order_id: String,
}

impl FetchOrderStatus {
    pub(crate) fn new() -> Self {
        Self {
            definition: ToolDefinition {
                name: "fetch_order_status".into(),
                description: "Fetches an order's status, its carrier and the day of delivery."
                    .into(),
                parameters: json!({
                    "type": "object",
                    "properties": {
                        "order_id": {
                            "type": "string",
                            "title": "order ID",
                            "description": "It is `ORD-` and at least four digits",
                            "pattern": "^ORD-[0-9]{4,}$",
                            "examples": ["ORD-1001"],
                        },
                    },
                    "required": ["order_id"],
                    "additionalProperties": false,
                }),
            },
        }
    }
}

#[async_trait]
impl Tool for FetchOrderStatus {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn call(&self, value: &Value, _context: &ToolContext) -> Result<Value, ToolError> {
        let Arguments { order_id } = arguments(value)?;
        let order = ORDERS.iter().find(|order| order.id == order_id);
        Ok(match order {
            Some(order) => json!({
                "found": true,
                "order_id": order.id,
                "status": order.status,
                "items": order.items,
                "carrier": order.carrier,
                "eta": order.eta,
            }),
            None => json!({
                "found": false,
                "order_id": order_id,
                "message": format!("There is no order {order_id}."),
            }),
        })
    }
}
