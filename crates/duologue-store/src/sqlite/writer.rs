//! The one writer of a SQLite file, which commits in groups.
//!
//! With `synchronous=FULL` a commit costs a wait for the disk, whatever is in it. So the writer
//! takes all operations that wait, up to a limit, runs them in one transaction, commits once, and
//! only then answers their callers. While it commits, the next group gathers.
//!
//! Each operation has a savepoint of its own: one that fails is undone without the others. If the
//! commit fails, all fail, and the connection is replaced by a new one, since after a failed write
//! to the disk nobody knows what the old one believes.
//!
//! After each commit, and before anything is acknowledged, the writer makes sure that the file is still the
//! one at its path. If it is not, nothing is acknowledged until it is again.

use std::{sync::Arc, time::Duration};

use duologue_engine::store::StoreError;
use rusqlite::{Connection, Savepoint, Transaction, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{
    failure::{SqliteFailure, may_pass},
    file::DatabaseFile,
    identity::{FileChanged, OpenFile},
    queue::Queue,
};
use crate::OpenError;

/// A handle on the writer's thread.
pub(super) struct Writer(Queue<Box<dyn Operation>>);

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
    /// Starts the thread. It keeps the file for this process until it ends.
    pub(super) fn start(file: DatabaseFile, connection: Connected, limits: WriterLimits) -> Self {
        let (queue, waiting) = Queue::new(limits.queue_max, limits.queue_timeout);
        let main = connection.main.clone();
        let thread = Thread {
            waiting,
            batch_max: limits.batch_max,
            connected: Some(connection),
            main,
            is_changed: false,
            file,
        };
        queue.start("sqlite-writer", move || thread.run());
        Self(queue)
    }

    /// Runs `change` in the next commit, and answers when that is on the disk.
    ///
    /// The operation is not undone when the caller stops waiting.
    pub(super) async fn write<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Savepoint<'_>) -> Result<T, SqliteFailure> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let operation = Box::new(Queued {
            change: Some(change),
            outcome: None,
            caller,
        });
        self.0.ask(operation, answer).await
    }

    /// Finishes what is queued, and releases the file.
    pub(super) async fn close(&self) {
        self.0.close().await;
    }
}

/// Something that waits for the writer.
trait Operation: Send {
    /// Runs it in a savepoint. An error is about the whole transaction.
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), BatchError>;

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
    F: FnOnce(&Savepoint<'_>) -> Result<T, SqliteFailure> + Send,
{
    fn run(&mut self, transaction: &mut Transaction<'_>) -> Result<(), BatchError> {
        let change = self.change.take().expect("an operation runs once");
        let mut savepoint = transaction.savepoint()?;
        let outcome = change(&savepoint);
        match outcome {
            Ok(_) => savepoint.commit()?,
            // After some errors, such as a full disk, SQLite has undone the whole transaction.
            Err(SqliteFailure(error)) if savepoint.is_autocommit() => {
                return Err(BatchError::Undone(error));
            }
            Err(_) => {
                savepoint.rollback()?;
                savepoint.commit()?;
            }
        }
        self.outcome = Some(outcome);
        Ok(())
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

/// An open connection, and the files behind it.
pub(super) struct Connected {
    connection: Connection,
    main: OpenFile,
    /// The write-ahead log and its index. They live as long as a connection to the file.
    companions: [OpenFile; 2],
}

impl Connected {
    /// Notes which files a connection that has been used has open.
    pub(super) fn new(connection: Connection, file: &DatabaseFile) -> Result<Self, OpenError> {
        Ok(Self {
            connection,
            main: OpenFile::at(file.path().to_owned())?,
            companions: [
                OpenFile::at(file.companion("-wal"))?,
                OpenFile::at(file.companion("-shm"))?,
            ],
        })
    }

    /// The database file itself.
    pub(super) fn main(&self) -> &OpenFile {
        &self.main
    }

    fn check_files(&self) -> Result<(), FileChanged> {
        self.main.check()?;
        self.companions.iter().try_for_each(OpenFile::check)
    }
}

struct Thread {
    waiting: mpsc::Receiver<Box<dyn Operation>>,
    batch_max: usize,
    /// None after a failure.
    connected: Option<Connected>,
    /// The file that was opened at the start. No other one is ever written to.
    main: OpenFile,
    /// Whether the file at the path was another one at the last commit.
    is_changed: bool,
    file: DatabaseFile,
}

/// Why a whole batch failed.
#[derive(Debug, thiserror::Error)]
enum BatchError {
    #[error("the file cannot be opened again")]
    Open(#[from] OpenError),
    #[error("the transaction failed")]
    Transaction(#[from] rusqlite::Error),
    #[error("SQLite has undone the transaction")]
    Undone(#[source] StoreError),
    #[error(transparent)]
    Changed(#[from] FileChanged),
}

impl Thread {
    fn run(mut self) {
        let mut batch = Vec::with_capacity(self.batch_max);
        // 0: the store is closed, and all are done.
        while self.waiting.blocking_recv_many(&mut batch, self.batch_max) > 0 {
            let lost = self.commit(&mut batch).err().map(Arc::new);
            self.log(lost.as_deref(), batch.len());
            for operation in batch.drain(..) {
                operation.answer(lost.clone().map(store_error));
            }
        }
        if let Some(connected) = self.connected.take() {
            // The last connection to close folds the WAL into the file.
            if let Err((_, error)) = connected.connection.close() {
                tracing::warn!(error = %chain(&error), "store.close_failed");
            }
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Operation>]) -> Result<(), BatchError> {
        let connected = match &mut self.connected {
            Some(connected) => connected,
            none => none.insert(reconnect(&self.file, &self.main)?),
        };
        if self.is_changed {
            connected.check_files()?;
        }
        let result = commit(&mut connected.connection, batch);
        if let Err(error) = result {
            self.connected = None;
            return Err(error);
        }
        Ok(connected.check_files()?)
    }

    fn log(&mut self, lost: Option<&BatchError>, operations: usize) {
        let is_changed = matches!(lost, Some(BatchError::Changed(_)));
        match lost {
            Some(error) if is_changed && !self.is_changed => {
                tracing::error!(error = %chain(error), operations, "store.file_changed");
            }
            Some(error) => {
                tracing::warn!(error = %chain(error), operations, "store.commit_failed");
            }
            None if self.is_changed => tracing::warn!("store.file_restored"),
            None => {}
        }
        self.is_changed = is_changed;
    }
}

/// Opens the file again, if it is the one that was opened at the start.
fn reconnect(file: &DatabaseFile, main: &OpenFile) -> Result<Connected, BatchError> {
    main.check()?;
    let connected = Connected::new(file.connect_existing()?, file)?;
    main.check()?;
    Ok(connected)
}

/// Commits all operations that succeed.
fn commit(connection: &mut Connection, batch: &mut [Box<dyn Operation>]) -> Result<(), BatchError> {
    // Not deferred: a transaction that reads first and then wants to write is refused at once
    // when another process writes, instead of waiting for it.
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for operation in batch {
        operation.run(&mut transaction)?;
    }
    transaction.commit()?;
    Ok(())
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
