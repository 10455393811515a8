//! Restarts tasks that the whole server depends on when they panic.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;

/// The pause before a restart, so that a task that panics at once does not spin.
const PAUSE: Duration = Duration::from_secs(1);

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
