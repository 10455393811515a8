//! The real server on a simulated host.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
};

use duologue_engine::{Parts, store::ServerId, tool::Tool};
use duologue_router::RuleAgent;
use duologue_server::{
    config::{self, Config, Environment},
    server::Server,
};
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Connection, Database},
    model::Model,
    network::SimulatedListener,
    time::{SkewedClock, Time},
    tools::{Look, TOOL},
};

/// Shorter times than in life, in the same proportions, so that much happens in a minute.
const SETTINGS: &[(&str, &str)] = &[
    ("DUOLOGUE_SERVER__DRAIN_TIMEOUT", "4s"),
    ("DUOLOGUE_SOCKET__PING_INTERVAL", "3s"),
    ("DUOLOGUE_SOCKET__PONG_TIMEOUT", "2s"),
    ("DUOLOGUE_SOCKET__WRITE_TIMEOUT", "2s"),
    ("DUOLOGUE_SOCKET__AGE_MAX", "40s"),
    ("DUOLOGUE_SOCKET__AGE_NOTICE", "4s"),
    ("DUOLOGUE_SESSION__RESUME_GRACE", "12s"),
    ("DUOLOGUE_SESSION__IDLE_TIMEOUT", "60s"),
    ("DUOLOGUE_CLUSTER__LEASE", "1500ms"),
    ("DUOLOGUE_CLUSTER__HEARTBEAT_INTERVAL", "500ms"),
    ("DUOLOGUE_SESSION__SWEEP_INTERVAL", "2s"),
    ("DUOLOGUE_SESSION__STORAGE_RETRY_TIMEOUT", "12s"),
    ("DUOLOGUE_SESSION__DRAFT_INTERVAL", "200ms"),
    ("DUOLOGUE_SESSION__READER_FRAMES_MAX", "256"),
    // All clients come from one address, and there are more of them than one may have.
    ("DUOLOGUE_LIMITS__ADDRESS__HANDSHAKES_PER_SECOND", "10000"),
    ("DUOLOGUE_LIMITS__ADDRESS__HANDSHAKES_BURST", "10000"),
    ("DUOLOGUE_LIMITS__ADDRESS__CONNECTIONS_MAX", "10000"),
    ("DUOLOGUE_LIMITS__ADDRESS__UNATTACHED_MAX", "10000"),
    ("DUOLOGUE_LIMITS__CONNECTION__FRAMES_PER_MINUTE", "100000"),
    ("DUOLOGUE_LIMITS__CONNECTION__FRAMES_BURST", "10000"),
    ("DUOLOGUE_LIMITS__USER__SOCKETS_MAX", "10000"),
    ("DUOLOGUE_LIMITS__USER__SESSIONS_MAX", "10000"),
    ("DUOLOGUE_LIMITS__USER__MESSAGES_PER_MINUTE", "100000"),
    ("DUOLOGUE_LIMITS__USER__MESSAGES_BURST", "10000"),
    ("DUOLOGUE_LIMITS__USER__TURNS_PER_MINUTE", "100000"),
    ("DUOLOGUE_LIMITS__USER__TURNS_RUNNING_MAX", "10000"),
    ("DUOLOGUE_LIMITS__TOKENS__SESSION_MAX", "1000000000"),
    ("DUOLOGUE_LIMITS__TOKENS__USER_PER_DAY_MAX", "1000000000"),
    ("DUOLOGUE_LIMITS__TOKENS__PROCESS_PER_DAY_MAX", "1000000000"),
    ("DUOLOGUE_TURN__TOOL_TIMEOUT", "2s"),
    ("DUOLOGUE_GENERATION__FIRST_TOKEN_TIMEOUT", "3s"),
    ("DUOLOGUE_GENERATION__NEXT_TOKEN_TIMEOUT", "3s"),
    ("DUOLOGUE_GENERATION__TOTAL_TIMEOUT", "12s"),
    ("DUOLOGUE_GENERATION__RETRY_DELAY", "200ms"),
    ("DUOLOGUE_GENERATION__RETRY_AFTER_MAX", "2s"),
    ("DUOLOGUE_JOBS__LEASE", "2s"),
    ("DUOLOGUE_JOBS__LEASE_RENEWAL_INTERVAL", "1500ms"),
    ("DUOLOGUE_JOBS__POLL_INTERVAL", "2s"),
    ("DUOLOGUE_JOBS__RETRY_DELAYS", r#"["1s", "2s", "4s", "4s"]"#),
];

/// The settings of every simulated server.
pub(crate) fn settings() -> Config {
    let environment = Environment::new(SETTINGS.iter().copied(), []);
    let loaded = config::load(None, &environment, Vec::new());
    loaded.expect("the simulation's settings are right").config
}

fn agent(look: &Arc<Look>) -> RuleAgent {
    let text = format!(
        "name = \"simulated\"\nprompt = \"Answer.\"\nsummary_prompt = \"Summarise.\"\n\
         [phrases]\ncorrections = [\"no\"]\ndrops = [\"never mind\"]\n[tools.{TOOL}]\n"
    );
    let tools: [Arc<dyn Tool>; 1] = [Arc::<Look>::clone(look)];
    RuleAgent::from_toml(&text, &tools).expect("the simulation's agent is right")
}

/// One simulated host and what outlives its crashes.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    config: Arc<Config>,
    database: Arc<Database>,
    model: Model,
    agent: Arc<RuleAgent>,
    time: Time,
    /// By how much its clock is wrong, in milliseconds.
    pub(crate) clock_offset_ms: Arc<AtomicI64>,
    incarnation: Arc<AtomicU32>,
    /// Stops the server that runs now.
    drain: Arc<Mutex<CancellationToken>>,
}

impl Host {
    pub(crate) fn new(
        name: String,
        database: Arc<Database>,
        model: Model,
        look: &Arc<Look>,
        time: Time,
    ) -> Self {
        Self {
            name,
            config: Arc::new(settings()),
            database,
            model,
            agent: Arc::new(agent(look)),
            time,
            clock_offset_ms: Arc::default(),
            incarnation: Arc::default(),
            drain: Arc::default(),
        }
    }

    /// Stops the server, as a signal would.
    pub(crate) fn drain(&self) {
        let drain = self.drain.lock().expect("no holder of this lock panics");
        drain.cancel();
    }

    /// Serves until it is stopped, as a new run of the program.
    pub(crate) async fn serve(self) -> turmoil::Result {
        let run = self.incarnation.fetch_add(1, Ordering::Relaxed);
        let drain = CancellationToken::new();
        drain.clone_into(&mut self.drain.lock().expect("no holder of this lock panics"));
        let parts = Parts {
            store: Arc::new(Connection::new(self.database, &self.name)),
            provider: Arc::new(self.model),
            agent: self.agent,
            clock: Arc::new(SkewedClock::new(self.time, self.clock_offset_ms)),
            server: ServerId(format!("{}#{run}", self.name)),
        };
        let listener = SimulatedListener::bind().await?;
        let address = Ipv4Addr::UNSPECIFIED.into();
        let server = Server::assemble(parts, &self.config, listener, address)?;
        server.run(drain, CancellationToken::new()).await;
        Ok(())
    }
}
