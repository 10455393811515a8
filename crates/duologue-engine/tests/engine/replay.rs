//! Replaying a log gives the state that the session had, whatever its users did.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use duologue_doubles::{
    clock::TestClock,
    memory::{Fault, MemoryStore},
};
use duologue_engine::{
    Limits, Parts, Reader,
    limits::{
        ClusterLimits, GenerationLimits, JobLimits, ProcessLimits, SessionLimits, TokenLimits,
        TurnLimits, UserLimits,
    },
    replay::{Commands, SessionRunner},
    store::ServerId,
    tool::{Tool, ToolContext, ToolDefinition, ToolError},
};
use duologue_mock::{Mock, MockConfig};
use duologue_protocol::{
    ClientFrame, DisconnectReason, MessageId, OnBusy, Seq, SessionId, UserInput,
};
use duologue_router::RuleAgent;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

const AGENT: &str = r#"
name = "test"
prompt = "Be kind."
summary_prompt = "Be brief."

[phrases]
corrections = ["no"]
drops = ["never mind"]

[[routes]]
name = "order"
tool = "fetch_order"
keywords = ["order"]

[tools.fetch_order]
"#;

/// What a user says: plain, for a tool, in answer to its question, and what makes the mock fail.
const TEXTS: [&str; 9] = [
    "hi",
    "where is my order ORD-1",
    "where is my order",
    "ORD-2",
    "no, ORD-3",
    "never mind",
    "mock:words=200 mock:delay_ms=20",
    "mock:words=9 mock:fail_at=3",
    "mock:refuse",
];

#[derive(Clone, Debug)]
enum Action {
    Say {
        text: usize,
        id: Option<u8>,
        on_busy: Option<OnBusy>,
    },
    Cancel,
    Come {
        after: Option<u64>,
    },
    Go {
        reason: DisconnectReason,
    },
    Pass {
        millis: u64,
    },
    WritesFail {
        count: u32,
        fault: Fault,
    },
}

/// How one life of the session comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    Requested,
    /// Its process is killed.
    Killed,
}

fn action() -> impl Strategy<Value = Action> {
    let on_busy = prop_oneof![
        Just(OnBusy::Queue),
        Just(OnBusy::Reject),
        Just(OnBusy::Interrupt)
    ];
    let say = (
        0..TEXTS.len(),
        prop::option::of(0_u8..4),
        prop::option::of(on_busy),
    );
    let reason = prop_oneof![Just(DisconnectReason::Lost), Just(DisconnectReason::Closed)];
    let fault = prop_oneof![Just(Fault::BeforeEffect), Just(Fault::AfterEffect)];
    prop_oneof![
        6 => say.prop_map(|(text, id, on_busy)| Action::Say { text, id, on_busy }),
        1 => Just(Action::Cancel),
        2 => prop::option::of(0_u64..9).prop_map(|after| Action::Come { after }),
        1 => reason.prop_map(|reason| Action::Go { reason }),
        4 => (0_u64..3000).prop_map(|millis| Action::Pass { millis }),
        1 => (1_u32..4, fault).prop_map(|(count, fault)| Action::WritesFail { count, fault }),
    ]
}

type Life = (Vec<Action>, End);

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let end = prop_oneof![2 => Just(End::Requested), 1 => Just(End::Killed)];
    prop::collection::vec((prop::collection::vec(action(), 1..25), end), 1..4)
}

struct Order(ToolDefinition);

#[async_trait]
impl Tool for Order {
    fn definition(&self) -> &ToolDefinition {
        &self.0
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    async fn call(&self, arguments: &Value, _: &ToolContext) -> Result<Value, ToolError> {
        Ok(json!({ "order": arguments, "status": "shipped" }))
    }
}

fn agent() -> RuleAgent {
    let order: Arc<dyn Tool> = Arc::new(Order(ToolDefinition {
        name: "fetch_order".to_owned(),
        description: "A tool.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": { "order_id": { "type": "string", "pattern": "^ORD-[0-9]+$" } },
            "required": ["order_id"],
        }),
    }));
    RuleAgent::from_toml(AGENT, &[order]).expect("the agent is well-formed")
}

/// The limits in `config/default.toml`, but for a conversation that is soon too long for a model.
fn limits() -> Limits {
    #[derive(Deserialize)]
    struct Sections {
        session: SessionLimits,
        cluster: ClusterLimits,
        turn: TurnLimits,
        generation: GenerationLimits,
        jobs: JobLimits,
        limits: Usage,
    }
    #[derive(Deserialize)]
    struct Usage {
        user: UserLimits,
        tokens: TokenLimits,
        process: ProcessLimits,
    }
    let defaults = include_str!("../../../../config/default.toml");
    let sections: Sections = toml::from_str(defaults).expect("the defaults can be read");
    Limits {
        cluster: sections.cluster,
        session: sections.session,
        turn: TurnLimits {
            prompt_bytes_max: 1000,
            ..sections.turn
        },
        generation: sections.generation,
        jobs: sections.jobs,
        user: UserLimits {
            turns_per_minute: NonZeroU32::MAX,
            ..sections.limits.user
        },
        tokens: sections.limits.tokens,
        process: sections.limits.process,
    }
}

fn runner(store: &Arc<MemoryStore>) -> SessionRunner {
    let config = MockConfig {
        delay: Duration::from_millis(5),
        directives: true,
    };
    let parts = Parts {
        store: Arc::<MemoryStore>::clone(store),
        provider: Arc::new(Mock::new(config)),
        agent: Arc::new(agent()),
        clock: Arc::new(TestClock::start()),
        server: ServerId("here".to_owned()),
    };
    SessionRunner::new(parts, limits())
}

/// Does what the users do, as a registry and its sockets would.
async fn act(actions: &[Action], commands: &Commands, store: &MemoryStore) {
    let mut readers: Vec<Reader> = Vec::new();
    for action in actions {
        match action {
            Action::Say { text, id, on_busy } => {
                let id = id.map(|id| MessageId::new(&id.to_string()).expect("an id"));
                let text = TEXTS[*text].into();
                let input = UserInput {
                    text,
                    id,
                    on_busy: *on_busy,
                };
                submit(&readers, ClientFrame::Message(input));
            }
            Action::Cancel => submit(&readers, ClientFrame::Cancel),
            Action::Come { after } => {
                // It is refused when the session is about to end, or full.
                readers.extend(commands.attach(after.map(Seq)).await);
            }
            Action::Go { reason } => {
                if let Some(reader) = readers.pop() {
                    reader.leave(*reason);
                }
            }
            Action::Pass { millis } => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Action::WritesFail { count, fault } => store.fail_next_writes(*count, *fault),
        }
    }
}

fn submit(readers: &[Reader], frame: ClientFrame) {
    if let Some(reader) = readers.first() {
        reader.submit(frame).expect("the inbox has room");
    }
}

/// Lives once, and compares. The next life records how a killed one ended.
async fn live(runner: &SessionRunner, store: &MemoryStore, (actions, end): Life) {
    store.fail_next_writes(0, Fault::BeforeEffect);
    let session_id = SessionId::new("s").expect("a session id");
    let life = async |commands: Commands| {
        act(&actions, &commands, store).await;
        if let End::Requested = end {
            commands.end(runner);
            std::future::pending::<()>().await;
        }
    };
    if let Some(ended) = runner.run(session_id, life).await {
        assert_eq!(ended.replayed, ended.lived);
        assert!(ended.lived.is_settled(), "{:?}", ended.lived);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Users come and go, talk and cancel, while writes fail and processes die. Whenever a session
    /// has ended, its log is read back, and gives what the session knew.
    #[test]
    fn a_log_replayed_is_the_session_that_was_lived(lives in lives()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.expect("a runtime").block_on(async {
            let store = Arc::new(MemoryStore::new());
            let runner = runner(&store);
            for life in lives {
                live(&runner, &store, life).await;
            }
        });
    }
}
