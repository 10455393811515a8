//! A timer that waits for one deadline after another.
//!
//! Registering a timer takes a lock that all tasks of the process share. A task that waits for a deadline
//! and something else registers a new timer each time it is woken, if it uses `sleep_until`. This timer is
//! registered again only when it fires too early, or when a deadline is earlier than the one before.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// See the module. It allocates nothing before its first use.
#[derive(Debug, Default)]
pub struct RearmedTimer(Option<Pin<Box<Sleep>>>);

impl RearmedTimer {
    /// Waits until `deadline`. Safe to cancel.
    pub async fn wait_until(&mut self, deadline: Instant) {
        std::future::poll_fn(|context| self.poll_until(context, deadline)).await;
    }

    /// Polls for `deadline`.
    pub fn poll_until(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline() >= deadline || Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // It was armed for an earlier deadline.
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_each_deadline_whether_earlier_or_later_than_the_one_before() {
        let start = Instant::now();
        let mut timer = RearmedTimer::default();
        for seconds in [3, 4, 4, 9] {
            timer.wait_until(start + SECOND * seconds).await;
            assert_eq!(start.elapsed(), SECOND * seconds);
        }
        // Each is given up for the next.
        for seconds in [100, 20, 30] {
            let waiting = timer.wait_until(start + SECOND * seconds);
            tokio::time::timeout(SECOND, waiting).await.unwrap_err();
        }
        timer.wait_until(start + SECOND * 25).await;
        assert_eq!(start.elapsed(), SECOND * 25);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_has_passed_is_over_at_once() {
        let start = Instant::now();
        let mut timer = RearmedTimer::default();
        timer.wait_until(start + SECOND).await;
        timer.wait_until(start).await;
        assert_eq!(start.elapsed(), SECOND);
    }
}
