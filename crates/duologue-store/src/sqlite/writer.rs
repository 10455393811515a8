//! The one writer of a SQLite file, which commits in groups.
//!
//! With `synchronous=FULL` a commit costs a wait for the disk, whatever is in it. So the writer
//! takes all operations that wait, up to a limit, runs them in one transaction, commits once, and
//! only then answers their callers. While it commits, the next group gathers.
//!
//! Each operation has a savepoint of its own: one that fails is undone without the others. If the
//! commit fails, all fail, and the connection is replaced by a new one, since after a failed write
//! to the disk nobody knows what the old one believes.

use std::{sync::Arc, time::Duration};

use duologue_engine::store::StoreError;
use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    failure::{SqliteFailure, may_pass},
    file::DatabaseFile,
};
use crate::OpenError;

/// A handle on the writer's task.
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Operation>>,
    queue_timeout: Duration,
    closing: CancellationToken,
    tasks: TaskTracker,
}

/// What bounds the writer.
#[derive(Clone, Copy)]
pub(super) struct WriterLimits {
    /// Operations in one commit.
    pub(super) batch_max: usize,
    /// Operations waiting.
    pub(super) queue_max: usize,
    /// How long a caller waits for a place in the queue.
    pub(super) queue_timeout: Duration,
}

impl Writer {
    /// Starts the task. It keeps the file for this process until it ends.
    pub(super) fn start(
        file: DatabaseFile,
        connection: SqliteConnection,
        limits: WriterLimits,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(limits.queue_max);
        let closing = CancellationToken::new();
        let task = Task {
            waiting,
            batch_max: limits.batch_max,
            closing: closing.clone(),
            connection: Some(connection),
            file,
        };
        let tasks = TaskTracker::new();
        tasks.spawn(task.run());
        Self {
            queue,
            queue_timeout: limits.queue_timeout,
            closing,
            tasks,
        }
    }

    /// Runs `change` in the next commit, and answers when that is on the disk.
    ///
    /// The operation is not undone when the caller stops waiting.
    pub(super) async fn write<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, SqliteFailure>>
            + Send
            + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let operation = Box::new(Queued {
            change: Some(change),
            outcome: None,
            caller,
        });
        match tokio::time::timeout(self.queue_timeout, self.queue.send(operation)).await {
            Ok(Ok(())) => answer
                .await
                .unwrap_or_else(|_| Err(unavailable("the writer is gone"))),
            Ok(Err(_)) => Err(unavailable("the store is closed")),
            Err(_) => Err(unavailable("too many operations wait for the disk")),
        }
    }

    /// Finishes what is queued, and releases the file.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

fn unavailable(why: &'static str) -> StoreError {
    StoreError::Unavailable(why.into())
}

/// Something that waits for the writer.
trait Operation: Send {
    /// Runs it in a savepoint. An error is about the whole transaction.
    fn run<'a>(
        &'a mut self,
        connection: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>>;

    /// Tells the caller how it went. With `lost`, nothing of the transaction is on the disk, or
    /// nobody knows.
    fn answer(self: Box<Self>, lost: Option<StoreError>);
}

struct Queued<T, F> {
    change: Option<F>,
    outcome: Option<Result<T, SqliteFailure>>,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Operation for Queued<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, SqliteFailure>> + Send,
{
    fn run<'a>(
        &'a mut self,
        connection: &'a mut SqliteConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(async move {
            let change = self.change.take().expect("an operation runs once");
            let mut savepoint = connection.begin().await?;
            let outcome = change(&mut savepoint).await;
            if outcome.is_ok() {
                savepoint.commit().await?;
            } else {
                savepoint.rollback().await?;
            }
            self.outcome = Some(outcome);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, lost: Option<StoreError>) {
        let result = match (lost, self.outcome) {
            (Some(error), _) => Err(error),
            (None, Some(outcome)) => outcome.map_err(|SqliteFailure(error)| error),
            (None, None) => unreachable!("what was committed has run"),
        };
        // A caller that stopped waiting needs no answer.
        let _ = self.caller.send(result);
    }
}

struct Task {
    waiting: mpsc::Receiver<Box<dyn Operation>>,
    batch_max: usize,
    closing: CancellationToken,
    /// None after a failure.
    connection: Option<SqliteConnection>,
    file: DatabaseFile,
}

/// Why a whole batch failed.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error("the file cannot be opened again")]
    Open(#[from] OpenError),
    #[error("the transaction failed")]
    Transaction(#[from] sqlx::Error),
}

impl Task {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(self.batch_max);
        while self.next(&mut batch).await {
            let lost = self.commit(&mut batch).await.err().map(Arc::new);
            if let Some(error) = &lost {
                tracing::warn!(error = %chain(error), operations = batch.len(), "store.commit_failed");
                self.connection = None;
            }
            for operation in batch.drain(..) {
                operation.answer(lost.clone().map(store_error));
            }
        }
        if let Some(connection) = self.connection.take() {
            // The last connection to close folds the WAL into the file.
            if let Err(error) = connection.close().await {
                tracing::warn!(error = %chain(&error), "store.close_failed");
            }
        }
    }

    /// Waits for operations. False: the store is closed, and all are done.
    async fn next(&mut self, batch: &mut Vec<Box<dyn Operation>>) -> bool {
        tokio::select! {
            biased;
            () = self.closing.cancelled(), if !self.waiting.is_closed() => self.waiting.close(),
            count = self.waiting.recv_many(batch, self.batch_max) => return count > 0,
        }
        self.waiting.recv_many(batch, self.batch_max).await > 0
    }

    async fn commit(&mut self, batch: &mut [Box<dyn Operation>]) -> Result<(), BatchError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.file.connect().await?),
        };
        // Not deferred: a transaction that reads first and then wants to write is refused at once
        // when another process writes, instead of waiting for it.
        let mut transaction = connection.begin_with("begin immediate").await?;
        for operation in batch {
            operation.run(&mut transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

fn store_error(error: Arc<BatchError>) -> StoreError {
    match &*error {
        BatchError::Transaction(cause) if !may_pass(cause) => StoreError::Corrupt(error.into()),
        _ => StoreError::Unavailable(error.into()),
    }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<_> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
