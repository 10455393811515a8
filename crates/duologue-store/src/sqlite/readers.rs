//! Connections that only read: they see what is committed and never wait for the writer.

use std::{
    num::NonZero,
    sync::{Arc, Mutex},
    time::Duration,
};

use duologue_engine::{BoxError, lock::lock, store::StoreError};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::{failure::SqliteFailure, queue::Queue};

/// A handle on the readers' threads.
pub(super) struct Readers(Queue<Box<dyn Query>>);

/// Opens a connection for reading.
pub(super) trait Connect:
    Fn() -> Result<Connection, BoxError> + Send + Sync + 'static
{
}

impl<F: Fn() -> Result<Connection, BoxError> + Send + Sync + 'static> Connect for F {}

impl Readers {
    /// Starts the threads. Each connects when it has something to read.
    pub(super) fn start(count: NonZero<u16>, timeout: Duration, connect: impl Connect) -> Self {
        let count = usize::from(count.get());
        // As many wait in the queue as are being answered; the others wait for a place in it.
        let (queue, waiting) = Queue::new(count, timeout);
        let (waiting, connect) = (Arc::new(Mutex::new(waiting)), Arc::new(connect));
        for _ in 0..count {
            let (waiting, connect) = (Arc::clone(&waiting), Arc::clone(&connect));
            queue.start("sqlite-reader", move || run(&waiting, &*connect));
        }
        Self(queue)
    }

    /// Runs `query` on a thread with a connection.
    pub(super) async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, SqliteFailure> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let query = Box::new(Queued { query, caller });
        self.0.ask(query, answer).await
    }

    /// Answers what is queued and closes the connections.
    pub(super) async fn close(&self) {
        self.0.close().await;
    }
}

/// Something that waits for a reader.
trait Query: Send {
    /// Runs it and answers the caller. False if the connection should not be used again.
    fn run(self: Box<Self>, connection: &Connection) -> bool;

    /// Answers the caller that there is no connection.
    fn fail(self: Box<Self>, error: BoxError);
}

struct Queued<T, F> {
    query: F,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Query for Queued<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> Result<T, SqliteFailure> + Send,
{
    fn run(self: Box<Self>, connection: &Connection) -> bool {
        let result = (self.query)(connection).map_err(|SqliteFailure(error)| error);
        let is_usable = !matches!(result, Err(StoreError::Unavailable(_)));
        // A caller that stopped waiting needs no answer.
        let _ = self.caller.send(result);
        is_usable
    }

    fn fail(self: Box<Self>, error: BoxError) {
        let _ = self.caller.send(Err(StoreError::Unavailable(error)));
    }
}

/// Answers one query after another until the queue is closed.
fn run(waiting: &Mutex<mpsc::Receiver<Box<dyn Query>>>, connect: &impl Connect) {
    let mut connection: Option<Connection> = None;
    loop {
        // One thread waits for the queue, the others for the lock.
        let Some(query) = lock(waiting).blocking_recv() else {
            return;
        };
        let opened = match connection.take() {
            Some(open) => Ok(open),
            None => connect(),
        };
        match opened {
            Ok(open) => connection = query.run(&open).then_some(open),
            Err(error) => query.fail(error),
        }
    }
}
