//! Agents without rules: whatever chooses the steps of a turn, the engine carries them out.

use std::sync::{Arc, LazyLock};

use duologue_doubles::scripted::Step as Scripted;
use duologue_engine::{
    agent::{Agent, Checked, ModelTools, Plan, Situation, Step},
    provider::ModelCall,
    tool::{OfferedTool, Tool},
};
use duologue_protocol::{ErrorCode, EventBody, FinishReason, Routed};
use serde_json::{Value, json};

use crate::harness::{
    World,
    client::{body, is_done},
    tool::Act,
};

static PROMPT: LazyLock<Arc<str>> = LazyLock::new(|| "Do as you like.".into());
static SUMMARY_PROMPT: LazyLock<Arc<str>> = LazyLock::new(|| "Summarise.".into());

/// Leaves everything to the model, and permits every call of its tools.
struct Permissive(Vec<Arc<dyn Tool>>);

impl Agent for Permissive {
    fn name(&self) -> &'static str {
        "permissive"
    }

    fn prompt(&self) -> &Arc<str> {
        &PROMPT
    }

    fn summary_prompt(&self) -> &Arc<str> {
        &SUMMARY_PROMPT
    }

    fn route(&self, situation: &Situation<'_>, model_tools: ModelTools) -> Plan {
        assert_ne!(situation.text, "panic", "the test's agent panics");
        assert_eq!(model_tools, ModelTools::Supported);
        Plan {
            route: "anything".to_owned(),
            tool: None,
            step: Step::Generate {
                tools: self.offered(),
            },
        }
    }

    fn check(&self, tool: &str, arguments: &Value, _: &Situation<'_>) -> Checked {
        match self.tool(tool) {
            Some(_) => Checked::Call(arguments.clone()),
            None => Checked::Refused("no such tool".to_owned()),
        }
    }

    fn tool(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.0.iter().find(|tool| tool.definition().name == name)
    }

    fn is_idempotent(&self, name: &str) -> bool {
        self.tool(name).is_some()
    }
}

impl Permissive {
    fn offered(&self) -> Vec<Arc<OfferedTool>> {
        let definitions = self.0.iter().map(|tool| tool.definition().clone());
        definitions.map(OfferedTool::new).map(Arc::new).collect()
    }
}

/// Panics whenever it has to choose.
struct Broken(Permissive);

impl Agent for Broken {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn prompt(&self) -> &Arc<str> {
        self.0.prompt()
    }

    fn summary_prompt(&self) -> &Arc<str> {
        self.0.summary_prompt()
    }

    fn route(&self, _: &Situation<'_>, _: ModelTools) -> Plan {
        panic!("the test's agent is broken")
    }

    fn check(&self, tool: &str, arguments: &Value, situation: &Situation<'_>) -> Checked {
        self.0.check(tool, arguments, situation)
    }

    fn tool(&self, name: &str) -> Option<&Arc<dyn Tool>> {
        self.0.tool(name)
    }

    fn is_idempotent(&self, name: &str) -> bool {
        self.0.is_idempotent(name)
    }
}

fn weather() -> [Scripted; 1] {
    [Scripted::Call(ModelCall {
        id: "1".to_owned(),
        name: "weather".to_owned(),
        arguments: json!({ "city": "Oslo" }),
    })]
}

/// The name, the prompts, the route and the tools are those of the agent, and its permission is enough
/// for a call.
#[tokio::test(start_paused = true)]
async fn an_agent_may_leave_every_choice_to_the_model() {
    let world = World::with_agent(|tools| Arc::new(Permissive(tools)));
    let mut client = world.connect("s").await;
    world.provider.will(weather());
    world.provider.will_say("Rain.");
    client.say("what do you think?");
    let answer = client.answer().await;
    assert_eq!(&*answer.done.text, "Rain.");
    assert_eq!(world.record("s").await.agent, "permissive");
    let routed = Routed {
        route: "anything".to_owned(),
        tool: None,
    };
    let mut bodies = answer.frames.iter().filter_map(body);
    assert!(bodies.any(|body| *body == EventBody::Routed(routed.clone())));
    let request = &world.provider.requests()[0];
    assert_eq!(request.system, *PROMPT);
    let offered: Vec<_> = request.tools.iter().map(|tool| &*tool.name).collect();
    assert_eq!(offered, ["fetch_order", "weather"]);
    let uses = world.tools.uses();
    assert_eq!(uses[0].arguments, json!({ "city": "Oslo" }));
    world.log("s").await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_panics_ends_its_turn_and_not_the_session() {
    let world = World::with_agent(|tools| Arc::new(Permissive(tools)));
    let mut client = world.connect("s").await;
    client.say("panic");
    let answer = client.answer().await;
    assert_eq!(answer.done.finish_reason, FinishReason::Error);
    assert_eq!(answer.done.error, Some(ErrorCode::Internal));
    world.provider.will_say("Better now.");
    client.say("and now?");
    assert_eq!(&*client.answer().await.done.text, "Better now.");
    world.log("s").await;
}

/// The server is lost during a tool call, and the agent of the next server panics when it is asked which
/// tools the resumed turn may use.
#[tokio::test(start_paused = true)]
async fn an_agent_that_panics_in_a_resumed_turn_ends_the_turn_and_not_the_session() {
    let lost = World::with_agent(|tools| Arc::new(Permissive(tools)));
    lost.tools.will("weather", Act::Hang);
    lost.provider.will(weather());
    let client = lost.connect("s").await;
    client.say("what do you think?");
    lost.tools.wait_for_uses(1).await;
    let tools = lost.tools.tools();
    let next = lost.next_with_agent("there", Arc::new(Broken(Permissive(tools))));
    let mut returned = next.resume("s", 0).await;
    let frames = returned.until(is_done).await;
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("the turn has an end");
    };
    assert_eq!(done.error, Some(ErrorCode::Internal));
    assert!(returned.settle().await.is_empty());
    next.log("s").await;
}
