//! A way to Postgres that can be made slow.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{latency::database_delay, postgres::Database};

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

/// By how much what a client sends is delayed. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Delay(Arc<AtomicU64>);

impl Delay {
    pub(crate) fn new(delay: Duration) -> Self {
        let new = Self(Arc::default());
        new.set(delay);
        new
    }

    fn set(&self, delay: Duration) {
        let milliseconds = u64::try_from(delay.as_millis()).expect("a delay is short");
        self.0.store(milliseconds, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Passes on connections to `port` of loopback, until it is dropped.
pub(crate) async fn accept(listener: TcpListener, port: u16, delay: Delay) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let delay = delay.clone();
        connections.spawn(async move {
            // How it ends shows at both its ends.
            let _ = connect(client, port, &delay).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(mut client: TcpStream, port: u16, delay: &Delay) -> io::Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from_client.read(&mut buffer).await?;
            if length == 0 {
                return to_server.shutdown().await;
            }
            let delay = delay.get();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            to_server.write_all(&buffer[..length]).await?;
        }
    };
    let answers = async {
        tokio::io::copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(requests, answers)?;
    Ok(())
}
