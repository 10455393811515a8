//! A bounded queue to threads that own connections.
//!
//! SQLite blocks, so each connection has a thread of its own, and callers wait for its answer without one.

use std::{sync::Mutex, time::Duration};

use duologue_engine::{lock::lock, store::StoreError};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::TaskTracker;

/// The callers' end of a queue, and the threads at the other.
pub(super) struct Queue<T> {
    /// None once the store is closed.
    sender: Mutex<Option<mpsc::Sender<T>>>,
    timeout: Duration,
    threads: TaskTracker,
}

impl<T: Send + 'static> Queue<T> {
    /// A queue for `places` items. A caller waits at most `timeout` for a place.
    pub(super) fn new(places: usize, timeout: Duration) -> (Self, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(places);
        let queue = Self {
            sender: Mutex::new(Some(sender)),
            timeout,
            threads: TaskTracker::new(),
        };
        (queue, receiver)
    }

    /// Starts a thread, for which `close` waits.
    pub(super) fn start(&self, name: &str, run: impl FnOnce() + Send + 'static) {
        let token = self.threads.token();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                run();
                drop(token);
            })
            .expect("the system has room for a few threads at the start");
    }

    /// Puts an item into the queue and waits for what is sent to `answer`. The item stays in the queue if the
    /// caller stops waiting.
    pub(super) async fn ask<A>(
        &self,
        item: T,
        answer: oneshot::Receiver<Result<A, StoreError>>,
    ) -> Result<A, StoreError> {
        let Some(sender) = lock(&self.sender).clone() else {
            return Err(unavailable("the store is closed"));
        };
        match tokio::time::timeout(self.timeout, sender.send(item)).await {
            Ok(Ok(())) => drop(sender),
            Ok(Err(_)) => return Err(unavailable("the thread of the SQLite file has ended")),
            Err(_) => return Err(unavailable("too many operations wait for the SQLite file")),
        }
        let answer = answer.await;
        answer.unwrap_or_else(|_| Err(unavailable("the thread of the SQLite file has ended")))
    }

    /// Accepts nothing more, and returns when the threads have finished what is queued.
    pub(super) async fn close(&self) {
        lock(&self.sender).take();
        self.threads.close();
        self.threads.wait().await;
    }
}

fn unavailable(why: &'static str) -> StoreError {
    StoreError::Unavailable(why.into())
}
