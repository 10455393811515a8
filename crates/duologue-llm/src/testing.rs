//! An upstream that does what a test tells it: a real HTTP server on a free port of this machine.
//!
//! Each request is answered by a [`Script`], down to single bytes and lost connections. What the
//! server has seen (requests, and whether their connections were closed) can be looked at, or
//! waited for.
//!
//! ```no_run
//! # use duologue_llm::testing::{Script, ScriptedUpstream};
//! # async fn example() {
//! let upstream = ScriptedUpstream::start().await;
//! upstream.will(Script::stream().say("Hello, ").hold("half-way").say("world").finish("stop"));
//! // … point a server at `upstream.base_url()`, and ask it something …
//! upstream.release("half-way");
//! # }
//! ```

mod connection;
mod script;
mod shared;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};

use crate::testing::shared::{Shared, State};
pub use crate::testing::{
    script::Script,
    shared::{RecordedRequest, RequestStatus},
};

/// How long a `wait_…` method waits before it panics.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// A server that answers by scripts. Dropping it closes all its connections.
#[derive(Debug)]
pub struct ScriptedUpstream {
    address: SocketAddr,
    shared: Shared,
    /// The task that accepts connections, and owns theirs.
    _accepting: JoinSet<()>,
}

impl ScriptedUpstream {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Shared::new(watch::Sender::new(State::default()));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            _accepting: accepting,
        }
    }

    /// What belongs into `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Scripts the answer to the next request that has no script yet.
    pub fn will(&self, script: Script) {
        self.shared
            .send_modify(|state| state.scripts.push_back(script));
    }

    /// Scripts the next answer to be `text`.
    pub fn will_say(&self, text: &str) {
        self.will(Script::text(text));
    }

    /// Scripts the answer to all requests whose last message contains `words`, whatever else is
    /// scripted. Of two that fit, the later one holds.
    pub fn about(&self, words: &str, script: Script) {
        self.shared
            .send_modify(|state| state.about.insert(0, (words.to_owned(), script)));
    }

    /// Scripts the answer to all requests that find no script of their own. Without it, they are
    /// refused.
    pub fn otherwise(&self, script: Script) {
        self.shared
            .send_modify(|state| state.otherwise = Some(script));
    }

    /// Scripts the response to requests for the list of models. Without it, there is no such list.
    pub fn lists_models(&self, script: Script) {
        self.shared.send_modify(|state| state.models = Some(script));
    }

    /// Lets all answers go on that hold at `name`, now or later.
    pub fn release(&self, name: &str) {
        self.shared.send_modify(|state| {
            state.released.insert(name.to_owned());
        });
    }

    /// All requests so far, oldest first.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.borrow().requests.clone()
    }

    /// Connections that neither side has closed.
    pub fn connections_open(&self) -> usize {
        self.shared.borrow().connections_open
    }

    /// Waits until there have been `count` requests.
    pub async fn wait_for_requests(&self, count: usize) {
        let what = format!("{count} requests");
        self.wait_for(&what, |state| state.requests.len() >= count)
            .await;
    }

    /// Waits until the `number`th request (1, 2, 3, …) stands as said.
    pub async fn wait_for_status(&self, number: usize, status: RequestStatus) {
        let what = format!("request {number} to be {status:?}");
        let stands = |state: &State| state.requests.get(number - 1).map(|request| request.status);
        self.wait_for(&what, |state| stands(state) == Some(status))
            .await;
    }

    /// Waits until all connections are closed.
    pub async fn wait_for_no_connections(&self) {
        self.wait_for("no connections", |state| state.connections_open == 0)
            .await;
    }

    async fn wait_for(&self, what: &str, is_so: impl FnMut(&State) -> bool) {
        let mut changes = self.shared.subscribe();
        let waited = timeout(WAIT_MAX, changes.wait_for(is_so)).await.map(drop);
        if waited.is_err() {
            let state = self.shared.borrow();
            panic!("expected {what} within {WAIT_MAX:?}: {state:#?}");
        }
    }
}

impl RecordedRequest {
    /// A header's value, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let header = self.headers.iter().find(|(own, _)| own == name)?;
        Some(&header.1)
    }

    /// The text of the conversation's last message.
    pub fn last_message(&self) -> &str {
        let last = self.body["messages"]
            .as_array()
            .and_then(|messages| messages.last());
        last.and_then(|message| message["content"].as_str())
            .unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, shared: Shared) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let mut number = 0;
        shared.send_modify(|state| {
            state.connections += 1;
            state.connections_open += 1;
            number = state.connections;
        });
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Whether a connection ends well or is lost, its requests say how they stand.
            drop(connection::serve(socket, number, &shared).await);
            shared.send_modify(|state| state.connections_open -= 1);
        });
    }
}
