//! The built-in agent with the built-in tools: what each message of a conversation leads to, where
//! authentication is disabled and (`signed_in`) where it is enabled.

mod model;
mod rules;
mod signed_in;

use std::sync::LazyLock;

use duologue_engine::agent::{Agent, Checked, ModelTools, Plan, Situation, Step};
use duologue_protocol::{FollowUp, UserId};
use duologue_router::RuleAgent;
use serde_json::{Value, json};

static AGENT: LazyLock<RuleAgent> = LazyLock::new(|| {
    let text = include_str!("../../../../config/agent.toml");
    RuleAgent::from_toml_without_authentication(text, &duologue_tools::builtin())
        .expect("the built-in agent is valid")
});

/// A conversation as the engine would keep it: each plan becomes what the next message meets.
struct Conversation {
    agent: &'static RuleAgent,
    user_id: UserId,
    model_tools: ModelTools,
    pending: Option<FollowUp>,
    last_call: Option<(String, Value)>,
}

impl Conversation {
    fn start() -> Self {
        Self {
            agent: &AGENT,
            user_id: UserId::anonymous(),
            model_tools: ModelTools::Unsupported,
            pending: None,
            last_call: None,
        }
    }

    fn with_model() -> Self {
        Self {
            model_tools: ModelTools::Supported,
            ..Self::start()
        }
    }

    fn situation<'a>(&'a self, text: &'a str) -> Situation<'a> {
        Situation {
            text,
            user_id: &self.user_id,
            pending: self.pending.as_ref(),
            last_call: self
                .last_call
                .as_ref()
                .map(|(name, arguments)| (name.as_str(), arguments)),
        }
    }

    fn say(&mut self, text: &str) -> Plan {
        let plan = self.agent.route(&self.situation(text), self.model_tools);
        self.pending = None;
        match &plan.step {
            Step::Call { tool, arguments } => {
                self.last_call = Some((tool.clone(), arguments.clone()));
            }
            Step::Ask(follow_up) => self.pending = Some(follow_up.clone()),
            Step::Generate { .. } => {}
        }
        plan
    }
}

/// What a message is expected to lead to.
enum Leads {
    /// By this route, to a call of this tool with these arguments.
    Call(&'static str, &'static str, Value),
    /// By this route, to a question of this tool for these parameters.
    Ask(&'static str, &'static str, &'static [&'static str]),
    /// By this route, to the model.
    Generate(&'static str),
}

use Leads::{Ask, Call, Generate};

#[track_caller]
fn talk(messages: impl IntoIterator<Item = (&'static str, Leads)>) {
    let mut conversation = Conversation::start();
    for (text, leads) in messages {
        let plan = conversation.say(text);
        match (&plan.step, leads) {
            (Step::Call { tool, arguments }, Call(route, name, expected)) => {
                let found = (plan.route.as_str(), tool.as_str(), arguments);
                assert_eq!(found, (route, name, &expected), "{text}");
                assert_eq!(plan.tool.as_deref(), Some(name), "{text}");
            }
            (Step::Ask(follow_up), Ask(route, name, missing)) => {
                let names: Vec<&str> = follow_up.missing.iter().map(String::as_str).collect();
                let found = (
                    plan.route.as_str(),
                    follow_up.tool.as_str(),
                    names.as_slice(),
                );
                assert_eq!(found, (route, name, missing), "{text}");
                assert_eq!(plan.tool.as_deref(), Some(name), "{text}");
            }
            (Step::Generate { tools }, Generate(route)) => {
                assert_eq!(plan.route, route, "{text}");
                assert!(tools.is_empty(), "the mock is offered no tools: {text}");
            }
            _ => panic!("{text:?} led to {plan:?}"),
        }
    }
}

fn balance(user_id: &str) -> Leads {
    Call(
        "follow_up",
        "fetch_account_balance",
        json!({ "user_id": user_id }),
    )
}

fn order(route: &'static str, order_id: &str) -> Leads {
    Call(route, "fetch_order_status", json!({ "order_id": order_id }))
}

fn asks_for_user_id() -> Leads {
    Ask("account_balance", "fetch_account_balance", &["user_id"])
}
