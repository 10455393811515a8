//! How far away the tests' Postgres is, which the environment says.
//!
//! [`VARIABLE`] in the environment puts a delaying proxy between each cluster and the servers under
//! test, and puts servers whose store does not matter to their test on Postgres in place of a file.
//! What a test itself reads from the database it reads without delay.

use std::{io, net::TcpListener, thread, time::Duration};

use tokio::runtime::Builder;

use crate::database_proxy;

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
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name("database-latency".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener);
                let listener = listener.expect("it does not block");
                database_proxy::accept(listener, target_port, database_proxy::Delay::new(delay))
                    .await;
            });
        })?;
    Ok(port)
}
