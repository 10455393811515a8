//! Waiting for conditions, with a deadline, in paused time.

use std::time::Duration;

/// How long a test waits for what must come. Paused time makes it free, and it is longer than any
/// limit, so that a test may wait for a limit to be reached.
const PATIENCE: Duration = Duration::from_mins(30);

/// How often it looks.
const GLANCE: Duration = Duration::from_millis(10);

/// Asks until there is an answer. Time passes meanwhile.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            pass(GLANCE).await;
        }
    })
    .await
}

/// Waits for what must come.
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("in vain for {PATIENCE:?}: {what}"))
}

/// Lets paused time pass: everything that is due meanwhile happens in its order.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

pub(crate) fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(crate) fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
