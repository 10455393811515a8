//! A server for one test: the real application, in this process, on a free port, with a store of
//! its own.

use std::{net::SocketAddr, path::Path, time::Duration};

use duologue_server::{
    application::Application,
    config::{self, Config, Environment},
    start_error::StartError,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use crate::crypto::install_crypto;
use crate::{
    client::Client,
    latency::database_delay,
    postgres::{Cluster, Database},
};

/// What a test's server differs in from a user's: nothing it does takes real time.
const SETTINGS: &[(&str, &str)] = &[
    ("DUOLOGUE_SERVER__PORT", "0"),
    ("DUOLOGUE_MODEL__MOCK__DELAY", "0s"),
    ("DUOLOGUE_MODEL__MOCK__DIRECTIVES", "true"),
];

/// A server about to be started.
#[derive(Debug)]
pub struct ServerBuilder {
    folder: TempDir,
    settings: Vec<(String, String)>,
    echoes: bool,
    /// Whether the test leaves the choice of a store to the environment.
    is_store_free: bool,
    /// The database that was chosen, if it is not a file.
    database: Option<Database>,
}

/// A running server. [`TestServer::stop`] it, so that what it leaves behind is checked.
#[derive(Debug)]
pub struct TestServer {
    builder: ServerBuilder,
    address: SocketAddr,
    drain: CancellationToken,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl ServerBuilder {
    /// Sets a variable of the server's environment, such as `DUOLOGUE_SESSION__RESUME_GRACE`.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets another variable say where sessions are kept.
    #[must_use]
    pub fn without_file(mut self) -> Self {
        self.settings
            .retain(|(name, _)| name != "DUOLOGUE_STORE__URL");
        self.is_store_free = false;
        self
    }

    /// Keeps sessions in the file [`TestServer::database`], also where the environment says that the
    /// database is far away.
    #[must_use]
    pub fn on_file(mut self) -> Self {
        self.is_store_free = false;
        self
    }

    /// Moves the server to Postgres if the environment says that the database is far away.
    async fn choose_store(&mut self) {
        if self.is_store_free && self.database.is_none() && !database_delay().is_zero() {
            let database = Cluster::get().await.database().await;
            let setting = ("DUOLOGUE_STORE__URL".to_owned(), database.url());
            self.settings.push(setting);
            self.database = Some(database);
        }
    }

    /// Gives it the route `/testing/echo`, a WebSocket that sends back what it gets.
    #[must_use]
    pub fn with_echo(mut self) -> Self {
        self.echoes = true;
        self
    }

    /// The folder that holds the server's files until it is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> Config {
        let environment = Environment::new(self.settings.iter().cloned(), []);
        config::load(None, &environment, Vec::new())
            .expect("a test's settings are right")
            .config
    }

    /// Starts it.
    pub async fn start(self) -> TestServer {
        let started = self.try_start().await;
        started.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)))
    }

    /// Starts it, or says why not.
    #[expect(
        clippy::disallowed_methods,
        reason = "`TestServer::stop` waits for the task"
    )]
    pub async fn try_start(mut self) -> Result<TestServer, StartError> {
        install_crypto();
        self.choose_store().await;
        let mut application = Application::build(&self.config()).await?;
        if self.echoes {
            application = application.with_echo();
        }
        let address = application.address();
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let task = tokio::task::spawn(application.run(drain.clone(), stop.clone()));
        Ok(TestServer {
            builder: self,
            address,
            drain,
            stop,
            task,
        })
    }
}

impl TestServer {
    /// A server to be configured, with a `SQLite` file of its own.
    pub fn builder() -> ServerBuilder {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let url = format!("sqlite:{}", folder.path().join("duologue.db").display());
        let builder = ServerBuilder {
            folder,
            settings: Vec::new(),
            echoes: false,
            is_store_free: true,
            database: None,
        };
        SETTINGS
            .iter()
            .chain(crate::GENEROUS_LIMITS)
            .fold(builder, |builder, (name, value)| builder.set(name, value))
            .set("DUOLOGUE_STORE__URL", &url)
    }

    /// A server as it is out of the box.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An address of its HTTP side.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address of a session's socket. `query` begins with `?` or is empty.
    pub fn socket_url(&self, session: &str, query: &str) -> String {
        format!("ws://{}/ws/session/{session}{query}", self.address)
    }

    /// The path of its `SQLite` file.
    pub fn database(&self) -> std::path::PathBuf {
        self.builder.folder().join("duologue.db")
    }

    /// Connects a user to a session, in the JSON dialect.
    pub async fn connect(&self, session: &str, user: &str) -> Client {
        Client::open(&self.socket_url(session, &format!("?user_id={user}"))).await
    }

    /// Connects again, to get what came after `after`.
    pub async fn resume(&self, session: &str, user: &str, after: u64) -> Client {
        Client::open(&self.socket_url(session, &format!("?user_id={user}&after={after}"))).await
    }

    /// Asks for a session's facts until `is_so` says that they are as expected.
    pub async fn session_until(
        &self,
        session: &str,
        user: &str,
        is_so: impl Fn(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        session_until(self.address, session, user, is_so).await
    }

    /// Asks it to stop as SIGTERM would, and waits until every task of it is gone.
    pub async fn stop(self) -> ServerBuilder {
        self.drain.cancel();
        let stopped = tokio::time::timeout(crate::DEADLINE, self.task).await;
        stopped
            .expect("the server stops in time")
            .expect("the server stops without a panic");
        self.builder
    }

    /// Stops it, cutting running turns short, and starts another on the same store.
    pub async fn restart(self) -> Self {
        self.stop.cancel();
        self.stop().await.start().await
    }
}

/// Asks a server for a session's facts until `is_so` says that they are as expected.
pub async fn session_until(
    server: SocketAddr,
    session: &str,
    user: &str,
    is_so: impl Fn(&serde_json::Value) -> bool,
) -> serde_json::Value {
    let url = format!("http://{server}/v1/sessions/{session}?user_id={user}");
    let asking = async {
        loop {
            let response = http().get(&url).send().await.expect("the server answers");
            let facts = response.json().await.expect("the answer is JSON");
            if is_so(&facts) {
                return facts;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let facts = tokio::time::timeout(crate::DEADLINE, asking).await;
    facts.expect("the session comes to be as expected")
}

/// An HTTP client that talks to loopback only.
pub fn http() -> reqwest::Client {
    install_crypto();
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("the client's settings are right")
}
