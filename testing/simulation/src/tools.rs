//! The one tool, which counts its uses: what it does cannot be undone.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use duologue_engine::tool::{Tool, ToolContext, ToolDefinition, ToolError};
use duologue_protocol::{CallId, SessionId};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::database::Counts;

/// Its name.
pub(crate) const TOOL: &str = "look";

/// See the module.
#[derive(Debug)]
pub(crate) struct Look {
    definition: ToolDefinition,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    uses: Counts<(SessionId, CallId)>,
}

impl Look {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        let definition = ToolDefinition {
            name: TOOL.to_owned(),
            description: "Takes a look.".to_owned(),
            parameters: json!({
                "type": "object",
                "properties": { "what": { "type": "string" } },
                "required": ["what"],
                "additionalProperties": false,
            }),
        };
        Arc::new(Self {
            definition,
            state: Mutex::new(State {
                rng: Rng::with_seed(seed),
                uses: Counts::new(),
            }),
        })
    }

    /// How often it was used, by session and call.
    pub(crate) fn uses(&self) -> Counts<(SessionId, CallId)> {
        let state = self.state.lock().expect("no holder of this lock panics");
        state.uses.clone()
    }
}

#[async_trait]
impl Tool for Look {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    async fn call(&self, _arguments: &Value, context: &ToolContext) -> Result<Value, ToolError> {
        let (takes, roll) = {
            let mut state = self.state.lock().expect("no holder of this lock panics");
            let key = (context.session_id.clone(), context.call_id.clone());
            *state.uses.entry(key).or_default() += 1;
            // Some take longer than a tool may.
            let takes = state.rng.u64(0..2600);
            (Duration::from_millis(takes), state.rng.u32(0..20))
        };
        tokio::time::sleep(takes).await;
        match roll {
            0 => Err(ToolError::Refused("there is nothing to see".to_owned())),
            1 => Err(ToolError::Failed("the simulated tool broke".into())),
            _ => Ok(json!({ "seen": true })),
        }
    }
}
