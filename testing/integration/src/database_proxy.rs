//! A way to Postgres that can be made slow.

use std::time::Duration;

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
        accepting.spawn(accept(listener, target_port, delay.clone()));
        Self {
            database,
            port: own_port,
            delay,
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
}
