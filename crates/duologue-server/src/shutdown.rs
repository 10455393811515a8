//! When to stop: at the first signal let go in order, at the second at once.

use std::{convert::Infallible, io};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The signals that ask a server to stop, listened to from now on.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Starts listening, so that no signal from now on ends the process by itself.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Cancels `drain` at the first signal and `stop` at the second. Never returns.
    pub async fn obey(mut self, drain: CancellationToken, stop: CancellationToken) -> Infallible {
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
