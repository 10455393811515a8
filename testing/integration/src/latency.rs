//! How far away the tests' Postgres is, which the environment says.
//!
//! [`VARIABLE`] in the environment puts a delaying proxy between each cluster and the servers under
//! test, and puts servers whose store does not matter to their test on Postgres in place of a file.
//! What a test itself reads from the database it reads without delay.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::JoinSet,
};

/// By how many milliseconds a round trip is longer. Without it, or with 0, by nothing.
pub const VARIABLE: &str = "DUOLOGUE_TEST_DATABASE_DELAY_MS";

/// By how much a round trip to the database is longer.
#[expect(
    clippy::disallowed_methods,
    reason = "it is an option of the tests, not a setting"
)]
pub fn database_delay() -> Duration {
    let milliseconds = std::env::var(VARIABLE).unwrap_or_else(|_| "0".to_owned());
    let milliseconds = milliseconds.parse();
    Duration::from_millis(milliseconds.unwrap_or_else(|_| panic!("{VARIABLE} is no number")))
}

/// Starts a proxy for all tests of this process, and returns its port. It has a thread of its own, since
/// each test has a runtime that ends with it.
pub(crate) fn start_proxy(target_port: u16, delay: Duration) -> io::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("database-latency".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener);
                let listener = listener.expect("it does not block");
                accept(listener, target_port, Delay::new(delay), |_| ()).await;
            });
        })?;
    Ok(port)
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

    pub(crate) fn set(&self, delay: Duration) {
        let milliseconds = u64::try_from(delay.as_millis()).expect("a delay is short");
        self.0.store(milliseconds, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// Passes on connections to `port` of loopback, until it is dropped. `observe` gets what clients send.
pub(crate) async fn accept(
    listener: TcpListener,
    port: u16,
    delay: Delay,
    observe: impl Fn(&[u8]) + Clone + Send + Sync + 'static,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (delay, observe) = (delay.clone(), observe.clone());
        connections.spawn(async move {
            // How it ends shows at both its ends.
            let _ = connect(client, port, &delay, observe).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(
    mut client: TcpStream,
    port: u16,
    delay: &Delay,
    observe: impl Fn(&[u8]),
) -> io::Result<()> {
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
            observe(&buffer[..length]);
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
