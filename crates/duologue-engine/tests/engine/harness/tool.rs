//! Two tools that do what a test tells them, and remember what they were asked.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use duologue_engine::tool::{Tool, ToolContext, ToolDefinition, ToolError};
use duologue_protocol::CallId;
use serde_json::{Value, json};
use tokio::sync::{Barrier, watch};

use super::{log, patience::within, store::WatchedStore};

/// What a tool does when it is called.
#[derive(Debug)]
pub(crate) enum Act {
    Answer(Value),
    Refuse(String),
    Fail,
    Panic,
    /// Never answers.
    Hang,
    /// Holds its thread, as no tool should, until the sender is dropped.
    Block(std::sync::mpsc::Receiver<()>),
    /// Answers once so many calls have come to the barrier.
    Meet(Arc<Barrier>),
}

/// One use of a tool.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub(crate) call_id: CallId,
    pub(crate) arguments: Value,
    /// What the session's log held when the tool was called.
    pub(crate) log: Vec<&'static str>,
}

/// The tools `fetch_order(order_id)` and `weather(city)`.
pub(crate) struct Toolbox {
    acts: Mutex<HashMap<&'static str, VecDeque<Act>>>,
    uses: watch::Sender<Vec<Use>>,
    store: Arc<WatchedStore>,
}

impl Toolbox {
    pub(super) fn new(store: &Arc<WatchedStore>) -> Arc<Self> {
        Arc::new(Self {
            acts: Mutex::default(),
            uses: watch::Sender::new(Vec::new()),
            store: Arc::clone(store),
        })
    }

    pub(crate) fn tools(self: &Arc<Self>) -> Vec<Arc<dyn Tool>> {
        let tool = |name, parameters| -> Arc<dyn Tool> {
            Arc::new(BoxedTool {
                name,
                definition: ToolDefinition {
                    name: String::from(name),
                    description: "A tool.".to_owned(),
                    parameters,
                },
                toolbox: Arc::clone(self),
            })
        };
        let order_id = json!({ "type": "string", "pattern": "^ORD-[0-9]+$" });
        vec![
            tool("fetch_order", schema("order_id", &order_id)),
            tool("weather", schema("city", &json!({ "type": "string" }))),
        ]
    }

    /// Says what a tool does when it is called next. Unless told, it answers `{"ok": true}`.
    pub(crate) fn will(&self, tool: &'static str, act: Act) {
        let mut acts = self.acts.lock().expect("no holder panics");
        acts.entry(tool).or_default().push_back(act);
    }

    /// All uses so far, oldest first.
    pub(crate) fn uses(&self) -> Vec<Use> {
        self.uses.borrow().clone()
    }

    /// Waits until the tools were used so often.
    pub(crate) async fn wait_for_uses(&self, count: usize) {
        let mut changes = self.uses.subscribe();
        let reached = changes.wait_for(|uses| uses.len() >= count);
        let reached = within("the tools are used", reached).await;
        drop(reached.expect("the toolbox is here"));
    }

    fn next_act(&self, tool: &'static str) -> Act {
        let mut acts = self.acts.lock().expect("no holder panics");
        let act = acts.entry(tool).or_default().pop_front();
        act.unwrap_or_else(|| Act::Answer(json!({ "ok": true })))
    }
}

fn schema(parameter: &str, value: &Value) -> Value {
    json!({
        "type": "object",
        "properties": { parameter: value },
        "required": [parameter],
        "additionalProperties": false,
    })
}

struct BoxedTool {
    name: &'static str,
    definition: ToolDefinition,
    toolbox: Arc<Toolbox>,
}

#[async_trait]
impl Tool for BoxedTool {
    fn definition(&self) -> &ToolDefinition {
        &self.definition
    }

    async fn call(&self, arguments: &Value, context: &ToolContext) -> Result<Value, ToolError> {
        let events = self.toolbox.store.log(context.session_id.as_str()).await;
        let used = Use {
            call_id: context.call_id.clone(),
            arguments: arguments.clone(),
            log: log::types(&events),
        };
        self.toolbox.uses.send_modify(|uses| uses.push(used));
        match self.toolbox.next_act(self.name) {
            Act::Answer(value) => Ok(value),
            Act::Refuse(why) => Err(ToolError::Refused(why)),
            Act::Fail => Err(ToolError::Failed("the test's tool is broken".into())),
            Act::Panic => panic!("the test's tool panics"),
            Act::Hang => std::future::pending().await,
            Act::Block(released) => {
                let _ = released.recv();
                Ok(json!({ "blocked": true }))
            }
            Act::Meet(barrier) => {
                barrier.wait().await;
                Ok(json!({ "met": true }))
            }
        }
    }
}
