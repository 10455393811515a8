//! Shutdown by signals: the first one drains the server, the second one stops it at once.

use std::{convert::Infallible, io};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The handlers of SIGINT and SIGTERM.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Installs the handlers. From now on the signals do not end the process by themselves.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Cancels `drain` at the first signal and `stop` at the second. Never returns.
    pub async fn handle(mut self, drain: CancellationToken, stop: CancellationToken) -> Infallible {
        self.next().await;
        tracing::info!("signal.drain");
        drain.cancel();
        self.next().await;
        tracing::warn!("signal.stop");
        stop.cancel();
        std::future::pending().await
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
