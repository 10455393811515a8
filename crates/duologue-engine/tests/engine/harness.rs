//! A world to test in: an engine, and the parts around it that a test holds in its hands.

pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod log;
mod names;
mod patience;
pub(crate) mod provider;
pub(crate) mod store;
pub(crate) mod tool;

use std::{
    num::{NonZeroU32, NonZeroU64},
    sync::Arc,
    time::Duration,
};

use duologue_doubles::scripted::ScriptedProvider;
use duologue_engine::{
    AttachError, Engine, Limits, Parts, Position,
    agent::Agent,
    limits::{
        ClusterLimits, GenerationLimits, JobLimits, ProcessLimits, RetryDelay, SessionLimits,
        TokenLimits, TurnLimits, UserLimits,
    },
    provider::Provider,
    store::{ServerId, SessionRecord, SessionStatus},
    tool::Tool,
};
use duologue_protocol::{Event, OnBusy, Seq, UserId};
use duologue_router::RuleAgent;

use self::{client::Client, clock::SteppingClock, store::WatchedStore, tool::Toolbox};
pub(crate) use self::{
    names::{alice, session_id, sweep_by},
    patience::{millis, pass, seconds, until, within},
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
[tools.weather]
"#;

/// An engine and what surrounds it.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) provider: ScriptedProvider,
    pub(crate) store: Arc<WatchedStore>,
    pub(crate) tools: Arc<Toolbox>,
    pub(crate) clock: Arc<SteppingClock>,
    agent: Arc<dyn Agent>,
}

impl World {
    /// An engine whose agent's rules decide which tools are called.
    pub(crate) fn start() -> Self {
        Self::with(|_| {})
    }

    /// Like [`start`](Self::start), with limits of the test's own.
    pub(crate) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let store = Arc::new(WatchedStore::new());
        Self::build(
            ScriptedProvider::following_rules(),
            None,
            store,
            "here",
            change,
        )
    }

    /// An engine whose model decides which tools are called.
    pub(crate) fn with_model_tools(change: impl FnOnce(&mut Limits)) -> Self {
        let store = Arc::new(WatchedStore::new());
        Self::build(
            ScriptedProvider::calling_tools(),
            None,
            store,
            "here",
            change,
        )
    }

    /// An engine with a provider of the test's own.
    pub(crate) fn with_provider(
        provider: Arc<dyn Provider>,
        change: impl FnOnce(&mut Limits),
    ) -> Self {
        let store = Arc::new(WatchedStore::new());
        let unused = ScriptedProvider::following_rules();
        Self::build(unused, Some(provider), store, "here", change)
    }

    /// Another server on a store that exists. Time at the store is the same for both.
    pub(crate) fn on(store: &Arc<WatchedStore>, server: &str) -> Self {
        let provider = ScriptedProvider::following_rules();
        Self::build(provider, None, Arc::clone(store), server, |_| {})
    }

    /// An engine whose agent has these settings for the tool `fetch_order`.
    pub(crate) fn with_order_tool(settings: &str) -> Self {
        let order = "[tools.fetch_order]";
        let text = AGENT.replace(order, &format!("{order}\n{settings}"));
        let store = Arc::new(WatchedStore::new());
        let tools = Toolbox::new(&store);
        let agent = rules(&text, &tools);
        let provider = ScriptedProvider::following_rules();
        Self::build_with(provider, None, store, tools, agent, "here", |_| {})
    }

    /// An engine whose model decides which tools are called, with an agent of the test's own.
    pub(crate) fn with_agent(agent: impl FnOnce(Vec<Arc<dyn Tool>>) -> Arc<dyn Agent>) -> Self {
        let store = Arc::new(WatchedStore::new());
        let tools = Toolbox::new(&store);
        let agent = agent(tools.tools());
        let provider = ScriptedProvider::calling_tools();
        Self::build_with(provider, None, store, tools, agent, "here", |_| {})
    }

    /// Another server like this one, with the same store, tools and agent.
    pub(crate) fn next(&self, server: &str) -> Self {
        self.next_with_agent(server, Arc::clone(&self.agent))
    }

    /// Another server with the same store and the same tools, and another agent.
    pub(crate) fn next_with_agent(&self, server: &str, agent: Arc<dyn Agent>) -> Self {
        let provider = ScriptedProvider::following_rules();
        let (store, tools) = (Arc::clone(&self.store), Arc::clone(&self.tools));
        Self::build_with(provider, None, store, tools, agent, server, |_| {})
    }

    /// Another server on a store that exists, with limits of the test's own.
    pub(crate) fn on_with(
        store: &Arc<WatchedStore>,
        server: &str,
        change: impl FnOnce(&mut Limits),
    ) -> Self {
        let provider = ScriptedProvider::following_rules();
        Self::build(provider, None, Arc::clone(store), server, change)
    }

    fn build(
        scripted: ScriptedProvider,
        provider: Option<Arc<dyn Provider>>,
        store: Arc<WatchedStore>,
        server: &str,
        change: impl FnOnce(&mut Limits),
    ) -> Self {
        let tools = Toolbox::new(&store);
        let agent = rules(AGENT, &tools);
        Self::build_with(scripted, provider, store, tools, agent, server, change)
    }

    fn build_with(
        scripted: ScriptedProvider,
        provider: Option<Arc<dyn Provider>>,
        store: Arc<WatchedStore>,
        tools: Arc<Toolbox>,
        agent: Arc<dyn Agent>,
        server: &str,
        change: impl FnOnce(&mut Limits),
    ) -> Self {
        let mut limits = limits();
        change(&mut limits);
        let clock = Arc::new(SteppingClock::start());
        let parts = Parts {
            store: Arc::<WatchedStore>::clone(&store),
            provider: provider.unwrap_or_else(|| Arc::new(scripted.clone())),
            agent: Arc::clone(&agent),
            clock: Arc::<SteppingClock>::clone(&clock),
            server: ServerId(server.to_owned()),
        };
        Self {
            engine: Engine::start(parts, limits),
            provider: scripted,
            store,
            tools,
            clock,
            agent,
        }
    }

    /// Alice attaches, with nothing to catch up on.
    pub(crate) async fn connect(&self, session: &str) -> Client {
        let client = self.attach(session, "alice", None).await;
        client.expect("Alice is let in")
    }

    /// Alice comes back.
    pub(crate) async fn resume(&self, session: &str, after: u64) -> Client {
        let client = self.attach(session, "alice", Some(after)).await;
        client.expect("Alice is let in again")
    }

    pub(crate) async fn attach(
        &self,
        session: &str,
        user: &str,
        after: Option<u64>,
    ) -> Result<Client, AttachError> {
        let position = after.map(|after| Position::from(Seq(after)));
        self.open_reader(session, user, position).await
    }

    /// Alice comes back to where she was in a certain history.
    pub(crate) async fn attach_at(&self, session: &str, position: Position) -> Client {
        let client = self.open_reader(session, "alice", Some(position)).await;
        client.expect("Alice is let in again")
    }

    async fn open_reader(
        &self,
        session: &str,
        user: &str,
        position: Option<Position>,
    ) -> Result<Client, AttachError> {
        let (user, session) = (UserId::new(user).expect("a user id"), session_id(session));
        let reader = self.engine.attach(&session, &user, position.as_ref()).await;
        reader.map(Client::new)
    }

    /// The whole log of a session of Alice's, after checking what holds for every log.
    pub(crate) async fn log(&self, session: &str) -> Vec<Event> {
        let events = self.store.log(session).await;
        log::check(&events);
        events
    }

    pub(crate) async fn record(&self, session: &str) -> SessionRecord {
        let (user, session) = (alice(), session_id(session));
        let record = self.store.memory().session(&user, &session).await;
        let record = record.expect("the store in memory answers");
        record.expect("the session exists")
    }

    /// Waits until a session has come so far.
    pub(crate) async fn until_status(&self, session: &str, status: SessionStatus) -> SessionRecord {
        until(&format!("`{session}` is {status:?}"), async || {
            let record = self.record(session).await;
            (record.status == status).then_some(record)
        })
        .await
    }
}

fn rules(text: &str, tools: &Arc<Toolbox>) -> Arc<dyn Agent> {
    let agent = RuleAgent::from_toml(text, &tools.tools());
    Arc::new(agent.expect("the agent is well-formed"))
}

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("a limit is not zero")
}

/// The limits of `config/default.toml`, with fewer attempts at jobs, and more for one user: Alice is in
/// every test.
fn limits() -> Limits {
    Limits {
        cluster: ClusterLimits {
            lease: seconds(3),
            heartbeat_interval: seconds(1),
        },
        session: SessionLimits {
            resume_grace: seconds(30),
            idle_timeout: Duration::from_mins(15),
            attach_timeout: seconds(2),
            sweep_interval: seconds(5),
            storage_retry_timeout: seconds(60),
            reconnect_window: seconds(10),
            draft_interval: millis(500),
            readers_max: 10,
            on_busy: OnBusy::Queue,
            messages_queued_max: 4,
            commands_queued_max: 64,
            reader_frames_max: 4096,
            reader_bytes_max: 1 << 20,
        },
        turn: TurnLimits {
            steps_max: 24,
            tool_calls_max: 8,
            tool_timeout: seconds(10),
            tool_result_bytes_max: 65_536,
            prompt_bytes_max: 131_072,
            output_tokens_max: 4096,
            answer_bytes_max: 65_536,
        },
        generation: GenerationLimits {
            first_token_timeout: seconds(20),
            next_token_timeout: seconds(30),
            total_timeout: Duration::from_mins(2),
            retries_max: 2,
            retry_delay: millis(500),
            retry_after_max: seconds(10),
        },
        jobs: JobLimits {
            workers: 2,
            lease: seconds(60),
            lease_renewal_interval: seconds(15),
            poll_interval: seconds(5),
            retry_delays: vec![RetryDelay(seconds(5)), RetryDelay(seconds(120))],
            summary_bytes_max: 8192,
            transcript_bytes_max: 65_536,
        },
        user: UserLimits {
            sockets_max: number(10),
            sessions_max: number(100_000),
            messages_per_minute: number(1000),
            messages_burst: number(1000),
            turns_per_minute: number(1000),
            turns_running_max: 100,
        },
        tokens: TokenLimits {
            session_max: 100_000_000,
            user_per_day_max: 100_000_000,
            process_per_day_max: 100_000_000,
        },
        process: ProcessLimits {
            bytes_in_flight_max: NonZeroU64::new(100_000_000).expect("it is not zero"),
        },
    }
}
