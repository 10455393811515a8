//! Tasks that the whole server depends on: they are restarted when they panic, and outlive all sessions.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The pause before a restart, so that a task that panics at once does not spin.
const PAUSE: Duration = Duration::from_secs(1);

/// A task that runs until it is stopped. Dropping this stops it as well, without waiting.
pub(crate) struct BackgroundTask {
    task: TaskTracker,
    stop: CancellationToken,
}

impl BackgroundTask {
    /// Starts `work`, which may be dropped at any of its `.await`s.
    pub(crate) fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let (task, stop) = (TaskTracker::new(), CancellationToken::new());
        let stopped = stop.clone();
        task.spawn(async move { stopped.run_until_cancelled(work).await });
        Self { task, stop }
    }

    /// Stops the task, and waits until it has stopped.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.task.close();
        self.task.wait().await;
    }
}

impl Drop for BackgroundTask {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Runs `work` to its end, and restarts it after each panic. A panic must leave no inconsistent state.
pub(crate) async fn survive_panics<F>(name: &'static str, work: impl Fn() -> F)
where
    F: Future<Output = ()>,
{
    // The panic hook has logged each panic with its place.
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        tracing::error!(task = name, "task.panicked");
        tokio::time::sleep(PAUSE).await;
    }
}
