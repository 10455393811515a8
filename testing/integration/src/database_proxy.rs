//! A way to Postgres that can be made slow, and that counts the calls.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    latency::{Delay, accept, database_delay},
    postgres::Database,
};

/// A running proxy. It ends, and cuts its connections, when it is dropped.
///
/// It owns the database, so that the database is not dropped while a server uses it through the
/// proxy.
#[derive(Debug)]
pub struct DatabaseProxy {
    database: Database,
    port: u16,
    delay: Delay,
    calls: Calls,
    _accepting: JoinSet<()>,
}

impl DatabaseProxy {
    /// Starts a proxy in front of the database's cluster.
    pub async fn start(database: Database) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("there is a free port");
        let own_port = listener.local_addr().expect("it is bound").port();
        let delay = Delay::new(database_delay());
        let mut accepting = JoinSet::new();
        let target_port = database.cluster().port();
        let calls = Calls::default();
        let observe = {
            let calls = calls.clone();
            move |sent: &[u8]| calls.observe(sent)
        };
        accepting.spawn(accept(listener, target_port, delay.clone(), observe));
        Self {
            database,
            port: own_port,
            delay,
            calls,
            _accepting: accepting,
        }
    }

    /// The URL for the database's owner, by way of this proxy.
    pub fn url(&self) -> String {
        self.database.url_at(self.port)
    }

    /// The database behind it.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// From now on, whatever a client sends is passed on only after `delay`, so that every round
    /// trip takes so much longer.
    pub fn delay(&self, delay: Duration) {
        self.delay.set(delay);
    }

    /// The functions that clients have called since the last time, each in one message, and so in one round trip.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.0.lock().expect("nobody panics here"))
    }
}

/// The names of the functions that were called.
#[derive(Clone, Debug, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    /// A call is a message of type `Q`, with the settings before it.
    fn observe(&self, sent: &[u8]) {
        if sent.first() != Some(&b'Q') {
            return;
        }
        let sql = String::from_utf8_lossy(sent);
        let call = sql
            .split_once("; select ")
            .and_then(|(_, call)| call.split_once('('));
        if let Some((function, _)) = call {
            let mut calls = self.0.lock().expect("nobody panics here");
            calls.push(function.to_owned());
        }
    }
}
