//! Signals: the first SIGTERM or SIGINT drains the server, the second one stops it at once, and those
//! that usually mean "reload" are logged and ignored.

use std::{convert::Infallible, io};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The handlers of SIGINT and SIGTERM.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// The handlers of SIGHUP, SIGUSR1 and SIGUSR2.
///
/// By default they end a process. Service managers and log rotation send them, and a terminal that
/// is closed does.
#[derive(Debug)]
pub struct IgnoredSignals {
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
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

impl IgnoredSignals {
    /// Installs the handlers. From now on the signals do not end the process.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Logs each signal. Never returns.
    pub async fn log(mut self) -> Infallible {
        loop {
            let signal = tokio::select! {
                _ = self.hang_up.recv() => "SIGHUP",
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            tracing::info!(signal, "nothing to reload");
        }
    }
}
