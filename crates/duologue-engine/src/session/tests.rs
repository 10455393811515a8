//! Replaying a log gives what the session knew while it lived, whatever its users did to it.

use std::{num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use duologue_protocol::{ConnectionId, OnBusy, SessionId, UserId, UserInput};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{opening::open, *};
use crate::{
    agent::Agent,
    clock::TestClock,
    engine::{Limits, Parts},
    limits::{
        GenerationLimits, JobLimits, ProcessLimits, SessionLimits, TokenLimits, TurnLimits,
        UserLimits,
    },
    log::fold,
    provider::mock::{Mock, MockConfig},
    store::{
        ServerId,
        memory::{Fault, MemoryStore},
    },
    tool::{Tool, ToolContext, ToolDefinition, ToolError},
};

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

fn agent() -> Agent {
    let order: Arc<dyn Tool> = Arc::new(Order(ToolDefinition {
        name: "fetch_order".to_owned(),
        description: "A tool.".to_owned(),
        parameters: json!({
            "type": "object",
            "properties": { "order_id": { "type": "string", "pattern": "^ORD-[0-9]+$" } },
            "required": ["order_id"],
        }),
    }));
    Agent::from_toml(AGENT, &[order]).expect("the agent is well-formed")
}

/// The limits in `config/default.toml`, but for a conversation that is soon too long for a model.
fn limits() -> Limits {
    #[derive(Deserialize)]
    struct Sections {
        session: SessionLimits,
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

fn context(store: &Arc<MemoryStore>) -> Arc<Context> {
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
    Context::new(parts, limits())
}

/// Does what the users do, as a registry and its sockets would.
async fn act(actions: &[Action], commands: &mpsc::Sender<Command>, store: &MemoryStore) {
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
                let (reply, answer) = oneshot::channel();
                let after = after.map(Seq);
                let attach = Command::Attach(Attach { after, reply });
                commands.send(attach).await.expect("the session lives");
                // It is refused when the session is about to end, or full.
                readers.extend(answer.await.ok().and_then(Result::ok));
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

/// Lives once, and compares. A life that was killed is told of by the next one.
async fn live(context: &Arc<Context>, store: &MemoryStore, (actions, end): Life) {
    let (commands, inbox) = mpsc::channel(1000);
    let session_id = SessionId::new("s").expect("a session id");
    let opening = Opening::Requested(session_id, UserId::anonymous());
    store.fail_next_writes(0, Fault::BeforeEffect);
    let opened = open(context, opening).await.expect("the session opens");
    let mut session = Session::new(Arc::clone(context), opened, commands.downgrade(), inbox);
    let repaired = session.settle_interrupted_turn().await;
    assert!(repaired.is_ok(), "{repaired:?}");
    let life = async {
        act(&actions, &commands, store).await;
        let (connection, frame) = (ConnectionId::default(), ClientFrame::End);
        if let End::Requested = end {
            let load = InFlightGuard::nothing();
            let request = Command::Submit {
                connection,
                frame,
                load,
            };
            commands.send(request).await.expect("the session lives");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        exit = session.run() => assert!(matches!(exit, SessionExit::Ended), "{exit:?}"),
        () = life => return,
    }
    let empty = Transcript::new(context.limits.turn.prompt_bytes_max);
    let replayed = fold(store, session.log.lease(), empty).await;
    assert_eq!(replayed.expect("the log is read"), session.transcript);
    assert_eq!(session.transcript.open_turn, None);
    assert_eq!(session.transcript.open_calls, []);
    assert_eq!(session.transcript.queue.len(), 0);
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
            let context = context(&store);
            for life in lives {
                live(&context, &store, life).await;
            }
        });
    }
}
