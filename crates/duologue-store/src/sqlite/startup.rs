//! Opening the file, looking at it, and migrating it.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{
    SqliteStore, claims,
    file::{Access, DatabaseFile, open},
    migration,
    readers::Readers,
    server_leases::ServerLeases,
    writer::{Connected, Writer, WriterLimits},
};
use crate::{Condition, OpenError, StoreConfig, migrations::NEEDED};

impl SqliteStore {
    /// Creates and migrates the file as needed.
    pub(crate) async fn open(path: &Path, config: &StoreConfig) -> Result<Self, OpenError> {
        let (path, config) = (path.to_owned(), config.clone());
        blocking(move || {
            let file = DatabaseFile::lock(&path, config.busy_timeout)?;
            let mut connection = file.connect()?;
            for name in migration::apply(&file, &mut connection)? {
                tracing::info!(migration = name, "store.migrated");
            }
            let taken_back = claims::take_back(&connection);
            taken_back.map_err(|source| file.unusable(source))?;
            Self::start(file, connection, &config)
        })
        .await
    }

    fn start(
        file: DatabaseFile,
        connection: Connection,
        config: &StoreConfig,
    ) -> Result<Self, OpenError> {
        let connected = Connected::new(connection, &file)?;
        let (main, path) = (connected.main().clone(), file.path().to_owned());
        let busy_timeout = config.busy_timeout;
        let connect = move || {
            let connection = open(&path, Access::ReadOnly, busy_timeout)?;
            // Another file at this path would show another history.
            main.check()?;
            Ok(connection)
        };
        let limits = WriterLimits {
            batch_max: config.batch_max.get().into(),
            queue_max: config.queue_max.get().into(),
            queue_timeout: config.acquire_timeout,
        };
        Ok(Self {
            writer: Writer::start(file, connected, limits),
            readers: Readers::start(config.connections_max, config.acquire_timeout, connect),
            leases: ServerLeases::default(),
        })
    }
}

/// Runs what waits for the disk where it blocks no other task.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Migrates the file, which is created if it is not there.
pub(crate) async fn migrate(path: &Path, config: &StoreConfig) -> Result<Vec<String>, OpenError> {
    let (path, busy_timeout) = (path.to_owned(), config.busy_timeout);
    blocking(move || {
        let file = DatabaseFile::lock(&path, busy_timeout)?;
        let mut connection = file.connect()?;
        let applied = migration::apply(&file, &mut connection)?;
        close(&file, connection)?;
        Ok(applied)
    })
    .await
}

/// Looks at the file. It is neither created nor migrated; beside it, its lock file may appear.
pub(crate) async fn check(path: &Path, config: &StoreConfig) -> Result<Condition, OpenError> {
    let (path, busy_timeout) = (path.to_owned(), config.busy_timeout);
    blocking(move || {
        let file = match DatabaseFile::lock(&path, busy_timeout) {
            Err(OpenError::InUse { .. }) => return Ok(Condition::InUse),
            // The lock lies in the same folder, so there is a folder, and it can be written to.
            locked => locked?,
        };
        if !path.exists() {
            return Ok(Condition::MigratedAtStart { schema: 0 });
        }
        let unusable = |source| file.unusable(source);
        let mut connection = file.existing()?;
        // Only a transaction that may write tells whether one may.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let transaction = transaction.map_err(unusable)?;
        let version = migration::check_tables(&path, &transaction)?;
        transaction.rollback().map_err(unusable)?;
        close(&file, connection)?;
        Ok(if version < NEEDED {
            Condition::MigratedAtStart { schema: version }
        } else {
            Condition::Ready { schema: version }
        })
    })
    .await
}

fn close(file: &DatabaseFile, connection: Connection) -> Result<(), OpenError> {
    connection
        .close()
        .map_err(|(_, source)| file.unusable(source))
}
