//! Rules with tools made for the purpose: every kind of parameter, binding, route and mistake.
//! The built-in agent's conversations are tested where its tools are, in `duologue-tools`.

mod configuration;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use duologue_engine::{
    agent::{Agent, Checked, ModelTools, Plan, Situation, Step},
    tool::{Tool, ToolContext, ToolDefinition, ToolError},
};
use duologue_protocol::{FollowUp, UserId};
use serde_json::{Value, json};

use crate::RuleAgent;

/// A tool that is only ever planned, never called.
struct Planned(ToolDefinition);

#[async_trait]
impl Tool for Planned {
    fn definition(&self) -> &ToolDefinition {
        &self.0
    }

    async fn call(&self, _: &Value, _: &ToolContext) -> Result<Value, ToolError> {
        unreachable!("an agent plans calls and makes none")
    }
}

fn tool(name: &str, parameters: Value) -> Arc<dyn Tool> {
    Arc::new(Planned(ToolDefinition {
        name: name.into(),
        description: "A tool.".into(),
        parameters,
    }))
}

/// `book(city, nights, class?, breakfast?)`, `transfer(from_account, to_account, amount)`,
/// `tag(labels)` and `profile(user_id, field)`.
fn tools() -> Vec<Arc<dyn Tool>> {
    let account = json!({ "$ref": "#/$defs/account" });
    vec![
        tool(
            "book",
            json!({
                "type": "object",
                "properties": {
                    "city": { "type": "string", "minLength": 2, "maxLength": 20 },
                    "nights": { "type": "integer", "minimum": 1, "maximum": 30 },
                    "class": { "type": "string", "enum": ["Economy", "First Class"] },
                    "breakfast": { "type": "boolean" },
                },
                "required": ["city", "nights"],
                "additionalProperties": false,
            }),
        ),
        tool(
            "transfer",
            json!({
                "type": "object",
                "$defs": { "account": { "type": "string", "pattern": "^AC-[0-9]+$" } },
                "properties": {
                    "from_account": {
                        "$ref": "#/$defs/account",
                        "title": "source account",
                    },
                    "to_account": account,
                    "amount": { "type": "number", "exclusiveMinimum": 0 },
                },
                "required": ["from_account", "to_account", "amount"],
            }),
        ),
        tool(
            "tag",
            json!({
                "type": "object",
                "properties": {
                    "labels": { "type": "array", "items": { "type": "string" } },
                },
                "required": ["labels"],
                "additionalProperties": false,
            }),
        ),
        tool(
            "profile",
            json!({
                "type": "object",
                "properties": {
                    "user_id": { "type": "string", "pattern": "^user-[0-9]+$" },
                    "field": { "type": "string", "enum": ["email", "phone"] },
                },
                "required": ["user_id", "field"],
                "additionalProperties": false,
            }),
        ),
    ]
}

const AGENT: &str = r#"
name = "test"
prompt = "Be kind."
summary_prompt = "Be brief."

[phrases]
corrections = ["no", "i meant"]
drops = ["never mind", "stop"]

[[routes]]
name = "no_transfers"
tool = "transfer"
with_model = "forbid"
keywords = ["as a joke"]

[[routes]]
name = "small_talk"
keywords = ["how are you"]

[[routes]]
name = "book"
tool = "book"
keywords = ["book", "hotel"]

[[routes]]
name = "transfer"
tool = "transfer"
patterns = ['(?i)\b(send|transfer)\b']
with_model = "force"

[[routes]]
name = "tag"
tool = "tag"
keywords = ["tag"]

[[routes]]
name = "profile"
tool = "profile"
keywords = ["my email", "my phone", "profile"]

[tools.book.parameters.city]
aliases = ["town"]

[tools.book.parameters.nights]
ask = "How many nights?"

[tools.transfer]

[tools.tag]

[tools.profile.parameters.user_id]
from = "user"
"#;

static COMPILED: LazyLock<RuleAgent> = LazyLock::new(|| {
    RuleAgent::from_toml(AGENT, &tools())
        .expect("the configuration is right until a test changes it")
});

fn user(id: &str) -> UserId {
    UserId::new(id).expect("a valid id")
}

/// What `text` leads to when it is the first message.
fn route(text: &str, model_tools: ModelTools) -> Plan {
    reply(None, text, model_tools)
}

fn reply(pending: Option<&FollowUp>, text: &str, model_tools: ModelTools) -> Plan {
    let user_id = user("user-7");
    let situation = Situation {
        text,
        user_id: &user_id,
        pending,
        last_call: None,
    };
    COMPILED.route(&situation, model_tools)
}

fn check(tool: &str, arguments: &Value, text: &str, user_id: &str) -> Checked {
    let user_id = user(user_id);
    let situation = Situation {
        text,
        user_id: &user_id,
        pending: None,
        last_call: None,
    };
    COMPILED.check(tool, arguments, &situation)
}

#[track_caller]
fn arguments(plan: Plan) -> Value {
    match plan.step {
        Step::Call { arguments, .. } => arguments,
        _ => panic!("{plan:?}"),
    }
}

#[track_caller]
fn asked(plan: Plan) -> FollowUp {
    match plan.step {
        Step::Ask(follow_up) => follow_up,
        _ => panic!("{plan:?}"),
    }
}

#[track_caller]
fn offered(plan: Plan) -> Vec<String> {
    match plan.step {
        Step::Generate { tools } => tools.iter().map(|tool| tool.name.clone()).collect(),
        _ => panic!("{plan:?}"),
    }
}

#[test]
fn values_get_the_types_that_the_schema_names() {
    for (text, expected) in [
        (
            "book city=Rome nights=3",
            json!({ "city": "Rome", "nights": 3 }),
        ),
        (
            "Book a hotel; the city is Rome, the nights: 3. Breakfast: yes!",
            json!({ "city": "Rome", "nights": 3, "breakfast": true }),
        ),
        (
            "book town: \"New York\", nights=2, first class",
            json!({ "city": "New York", "nights": 2, "class": "First Class" }),
        ),
        (
            "transfer from account: AC-1, to-account AC-2, amount=12.50.",
            json!({ "from_account": "AC-1", "to_account": "AC-2", "amount": 12.5 }),
        ),
        // The words that no label claims go to the parameters in their order.
        (
            "transfer AC-1 AC-2 amount: 5",
            json!({ "from_account": "AC-1", "to_account": "AC-2", "amount": 5 }),
        ),
        (
            "transfer AC-1, the from_account is AC-2, amount: 5",
            json!({ "from_account": "AC-2", "to_account": "AC-1", "amount": 5 }),
        ),
        ("tag labels=[\"a\"]", json!({ "labels": ["a"] })),
    ] {
        assert_eq!(
            arguments(route(text, ModelTools::Unsupported)),
            expected,
            "{text}"
        );
    }
}

#[test]
fn the_bare_answer_to_a_question_is_read_by_the_type_that_was_asked_for() {
    let pending = asked(route("book city=Rome", ModelTools::Unsupported));
    assert_eq!(pending.question, "How many nights?");
    for (text, nights) in [("3", 3), ("3.", 3), ("no, 12", 12)] {
        let plan = reply(Some(&pending), text, ModelTools::Unsupported);
        assert_eq!(arguments(plan), json!({ "city": "Rome", "nights": nights }));
    }
    let again = asked(reply(Some(&pending), "31", ModelTools::Unsupported));
    assert_eq!(
        again.question,
        "`31` is not a valid nights. It must be a whole number from 1 to 30. What is the nights?"
    );
    assert_eq!(again.arguments, json!({ "city": "Rome" }));
    // A free text takes any single word, but neither a question nor a sentence.
    let pending = asked(route("book nights=2", ModelTools::Unsupported));
    assert_eq!(pending.question, "What is the city?");
    let plan = reply(Some(&pending), "Oslo", ModelTools::Unsupported);
    assert_eq!(arguments(plan), json!({ "city": "Oslo", "nights": 2 }));
    for text in ["Which?", "I do not know"] {
        let plan = reply(Some(&pending), text, ModelTools::Unsupported);
        assert_eq!(plan.route, "answer", "{text}");
    }
    // Nor a word that is a request of its own.
    let plan = reply(Some(&pending), "tag", ModelTools::Unsupported);
    assert_eq!(plan.route, "tag");
}

#[test]
fn a_shared_definition_goes_with_the_question() {
    let follow_up = asked(route("transfer amount=5 AC-1", ModelTools::Unsupported));
    assert_eq!(follow_up.missing, ["to_account"]);
    assert!(follow_up.schema["$defs"]["account"].is_object());
    let validator = jsonschema::validator_for(&follow_up.schema).unwrap();
    assert!(validator.is_valid(&json!({ "to_account": "AC-2" })));
    assert!(!validator.is_valid(&json!({ "to_account": "two" })));
}

#[test]
fn a_parameter_bound_to_the_user_is_the_sessions_user_whatever_anybody_says() {
    let plan = route("my email, user_id=user-1", ModelTools::Unsupported);
    let own = json!({ "user_id": "user-7", "field": "email" });
    assert_eq!(arguments(plan), own);
    for given in [
        json!({ "user_id": "user-1", "field": "email" }),
        json!({ "user_id": 5, "field": "email" }),
        json!({ "field": "email" }),
    ] {
        let checked = check("profile", &given, "my email", "user-7");
        assert_eq!(checked, Checked::Call(own.clone()));
    }
}

#[test]
fn a_user_whom_the_schema_refuses_cannot_use_the_tool() {
    let given = json!({ "field": "email" });
    let checked = check("profile", &given, "my email", "anonymous");
    let Checked::Refused(reason) = checked else {
        panic!("{checked:?}");
    };
    assert!(
        reason.contains("`user_id` cannot be \"anonymous\""),
        "{reason}"
    );

    let user_id = user("anonymous");
    let situation = Situation {
        text: "my email",
        user_id: &user_id,
        pending: None,
        last_call: None,
    };
    let plan = COMPILED.route(&situation, ModelTools::Unsupported);
    assert_eq!((plan.route.as_str(), &plan.tool), ("profile", &None));
    assert!(offered(plan).is_empty());
}

#[test]
fn a_model_does_not_see_a_parameter_that_is_bound_to_the_user() {
    let plan = route("hello", ModelTools::Supported);
    let Step::Generate { tools } = plan.step else {
        panic!("{plan:?}");
    };
    let profile = tools.iter().find(|tool| tool.name == "profile").unwrap();
    assert_eq!(
        profile.parameters,
        json!({
            "type": "object",
            "properties": { "field": { "type": "string", "enum": ["email", "phone"] } },
            "required": ["field"],
            "additionalProperties": false,
        })
    );
}

#[test]
fn a_route_without_a_tool_lets_the_model_answer_without_tools() {
    let plan = route("hello, how are you?", ModelTools::Unsupported);
    assert_eq!(plan.route, "small_talk");
    assert!(offered(plan).is_empty());
}

#[test]
fn with_a_model_only_forced_routes_decide() {
    let plan = route("book a hotel", ModelTools::Supported);
    assert_eq!(plan.route, "answer");
    assert_eq!(offered(plan), ["book", "profile", "tag", "transfer"]);
    let plan = route("send AC-1 AC-2 amount=5", ModelTools::Supported);
    assert_eq!(plan.route, "transfer");
    assert_eq!(
        arguments(plan),
        json!({ "from_account": "AC-1", "to_account": "AC-2", "amount": 5 })
    );
}

#[test]
fn a_forbidden_tool_is_neither_offered_nor_called_nor_asked_for() {
    let text = "as a joke, transfer AC-1 AC-2 amount=5";
    assert_eq!(
        offered(route(text, ModelTools::Supported)),
        ["book", "profile", "tag"]
    );
    assert_eq!(route(text, ModelTools::Unsupported).route, "answer");
    let pending = asked(route("transfer AC-1 AC-2", ModelTools::Unsupported));
    let plan = reply(
        Some(&pending),
        "as a joke: amount=5",
        ModelTools::Unsupported,
    );
    assert_eq!(plan.route, "answer");
    let checked = check(
        "transfer",
        &json!({ "from_account": "AC-1", "to_account": "AC-2", "amount": 5 }),
        text,
        "user-7",
    );
    assert!(
        matches!(&checked, Checked::Refused(reason) if !reason.contains("transfer,")),
        "{checked:?}"
    );
}

#[test]
fn what_a_model_made_up_is_refused_even_where_the_schema_is_silent() {
    let given = json!({ "from_account": "AC-1", "to_account": "AC-2", "amount": 0, "memo": "x" });
    assert_eq!(
        check("transfer", &given, "", "user-7"),
        Checked::Refused(
            "`amount` cannot be 0. It must be a number, more than 0. There is no parameter \
             `memo`. There are: from_account, to_account, amount."
                .into()
        )
    );
}

#[test]
fn a_question_of_a_tool_that_the_agent_lost_is_dropped() {
    let pending = FollowUp {
        tool: "gone".into(),
        missing: vec!["x".into()],
        question: "What is the x?".into(),
        schema: json!({}),
        arguments: Value::Null,
    };
    assert_eq!(
        reply(Some(&pending), "5", ModelTools::Unsupported).route,
        "answer"
    );
}

proptest::proptest! {
    /// Whatever a user writes, also in answer to a question, it leads somewhere, and always to the
    /// same place; what is called has been accepted by the schema.
    #[test]
    fn any_text_leads_somewhere_and_always_to_the_same_place(
        text in "(book |transfer |city=|nights: |AC-1|no, |never mind|[\"'=:#.,? ]|\\PC){0,12}",
    ) {
        let pending = asked(route("book nights=2", ModelTools::Unsupported));
        for pending in [None, Some(&pending)] {
            let plan = reply(pending, &text, ModelTools::Unsupported);
            if let Step::Call { tool, arguments } = &plan.step {
                let checked = check(tool, arguments, &text, "user-7");
                proptest::prop_assert_eq!(checked, Checked::Call(arguments.clone()));
            }
            proptest::prop_assert_eq!(&plan, &reply(pending, &text, ModelTools::Unsupported));
        }
    }
}
