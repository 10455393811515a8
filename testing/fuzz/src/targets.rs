//! The targets that need nothing but what is public.

use std::sync::OnceLock;

use duologue_engine::agent::{Agent, Checked, ModelTools, Situation, Step};
use duologue_protocol::{ClientFrame, ErrorCode, MessageId, UserId};
use duologue_router::RuleAgent;
use jsonschema::Validator;
use serde_json::Value;

/// Reads a client's frame.
pub(crate) fn client_frame(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match ClientFrame::read(text) {
        Ok(ClientFrame::Message(input)) => {
            assert!(!input.text.trim().is_empty(), "an empty message was read");
            assert!(!input.text.contains('\0'), "a NUL was let in");
            let is_sound = |id: &MessageId| MessageId::new(id.as_str()).is_ok();
            assert!(input.id.as_ref().is_none_or(is_sound), "a bad id was read");
        }
        Ok(_) => {}
        Err(error) => {
            assert_ne!(error.code, ErrorCode::Internal, "{text:?} is our fault");
            assert!(
                error.message.len() < 1024,
                "a refusal repeats what was sent"
            );
        }
    }
}

/// Reads an agent's file.
pub(crate) fn agent_file(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = RuleAgent::from_toml(&text, &duologue_tools::builtin()) {
        drop(error.to_string());
    }
}

/// Lets a user say the first line, and a model call each tool with the second as its arguments.
/// Whatever is then called is called with arguments that the tool's schema accepts.
pub(crate) fn tool_arguments(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (said, arguments) = text.split_once('\n').unwrap_or((&text, "{}"));
    let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
    let user_id = UserId::anonymous();
    let agent = agent();
    let mut situation = Situation {
        text: said,
        user_id: &user_id,
        pending: None,
        last_call: None,
    };
    for decider in [ModelTools::Supported, ModelTools::Unsupported] {
        match agent.route(&situation, decider).step {
            Step::Call { tool, arguments } => assert_fits(&tool, &arguments),
            Step::Ask(question) => {
                let pending = situation;
                let answer = Situation {
                    pending: Some(&question),
                    ..pending
                };
                if let Step::Call { tool, arguments } = agent.route(&answer, decider).step {
                    assert_fits(&tool, &arguments);
                }
            }
            Step::Generate { .. } => {}
        }
    }
    for (tool, _) in schemas() {
        situation.last_call = Some((tool, &arguments));
        if let Checked::Call(arguments) = agent.check(tool, &arguments, &situation) {
            assert_fits(tool, &arguments);
        }
    }
    let forged = agent.check(said, &arguments, &situation);
    let is_known = schemas().iter().any(|(tool, _)| *tool == said);
    assert!(
        is_known || matches!(forged, Checked::Refused(_)),
        "{said:?} was called"
    );
}

fn assert_fits(tool: &str, arguments: &Value) {
    let found = schemas().iter().find(|(name, _)| *name == tool);
    let (_, schema) = found.expect("only what the agent has is called");
    assert!(
        schema.is_valid(arguments),
        "`{tool}` was called with {arguments}"
    );
}

fn agent() -> &'static RuleAgent {
    static AGENT: OnceLock<RuleAgent> = OnceLock::new();
    AGENT.get_or_init(|| {
        let text = include_str!("../../../config/agent.toml");
        RuleAgent::from_toml(text, &duologue_tools::builtin()).expect("the built-in agent is sound")
    })
}

/// The schemas of all tools, compiled apart from the agent's own.
fn schemas() -> &'static [(String, Validator)] {
    static SCHEMAS: OnceLock<Vec<(String, Validator)>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        let tools = duologue_tools::builtin();
        let definitions = tools.iter().map(|tool| tool.definition());
        definitions
            .map(|definition| {
                let schema = jsonschema::validator_for(&definition.parameters);
                (
                    definition.name.clone(),
                    schema.expect("our schemas are valid"),
                )
            })
            .collect()
    })
}
