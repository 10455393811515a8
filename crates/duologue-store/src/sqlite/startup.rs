//! Opening the file, looking at it, and migrating it.

use std::path::Path;

use sqlx::{
    ConnectOptions, Connection, Executor, SqliteConnection, query_scalar, sqlite::SqlitePoolOptions,
};

use super::{
    SqliteStore, claims,
    file::{DatabaseFile, too_new, unusable},
    writer::{Writer, WriterLimits},
};
use crate::{
    Condition, OpenError, StoreConfig,
    migrations::{self, Age, Found, NEEDED, SCHEMA},
};

impl SqliteStore {
    /// Creates and migrates the file as needed.
    pub(crate) async fn open(path: &Path, config: &StoreConfig) -> Result<Self, OpenError> {
        let file = DatabaseFile::lock(path, config.busy_timeout)?;
        let mut connection = file.connect().await?;
        for name in apply(&file, path, &mut connection).await? {
            tracing::info!(migration = name, "store.migrated");
        }
        let taken_back = claims::take_back(&mut connection).await;
        taken_back.map_err(|source| file.unusable(source))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(config.connections_max.get().into())
            .acquire_timeout(config.acquire_timeout)
            .connect_lazy_with(file.read_only());
        let limits = WriterLimits {
            batch_max: config.batch_max.get().into(),
            queue_max: config.queue_max.get().into(),
            queue_timeout: config.acquire_timeout,
        };
        Ok(Self {
            writer: Writer::start(file, connection, limits),
            readers,
        })
    }
}

/// Migrates the file, which is created if it is not there.
pub(crate) async fn migrate(path: &Path, config: &StoreConfig) -> Result<Vec<String>, OpenError> {
    let file = DatabaseFile::lock(path, config.busy_timeout)?;
    let mut connection = file.connect().await?;
    let applied = apply(&file, path, &mut connection).await?;
    connection
        .close()
        .await
        .map_err(|source| file.unusable(source))?;
    Ok(applied)
}

/// Brings the tables up to date, in one transaction, and returns the names of what was applied.
async fn apply(
    file: &DatabaseFile,
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<Vec<String>, OpenError> {
    check_tables(path, connection).await?;
    let unusable = |source| file.unusable(source);
    let not_migrated = |source| file.not_migrated(source);
    let found = find(connection).await.map_err(unusable)?;
    let upgrade = migrations::sqlite_upgrade(&found);
    let migrator = migrations::sqlite();
    let transaction = connection.begin_with("begin immediate").await;
    let mut transaction = transaction.map_err(unusable)?;
    migrations::prepare(&mut *transaction)
        .await
        .map_err(not_migrated)?;
    let run = async |transaction: &mut SqliteConnection, script: &'static str| {
        let executed = transaction.execute(sqlx::raw_sql(script)).await;
        executed.map_err(|source| file.not_migrated(source.into()))
    };
    if let Some(upgrade) = &upgrade {
        run(&mut transaction, upgrade.before).await?;
    }
    let schema = migrations::run(&migrator, &mut *transaction, Some(SCHEMA)).await;
    let mut applied = schema.map_err(not_migrated)?;
    if let Some(upgrade) = &upgrade {
        run(&mut transaction, upgrade.after).await?;
    }
    let rest = migrations::run(&migrator, &mut *transaction, None).await;
    applied.extend(rest.map_err(not_migrated)?);
    transaction.commit().await.map_err(unusable)?;
    Ok(applied)
}

/// Finds out what is in the file.
async fn find(connection: &mut SqliteConnection) -> Result<Found, sqlx::Error> {
    let names = "select group_concat(name, ', ') from (
            select name from sqlite_schema where type = 'table' and name in
                ('sessions', 'session_events', 'session_drafts', 'session_jobs', 'duologue_installation')
            order by name
        )";
    let tables: Option<String> = query_scalar(names).fetch_one(&mut *connection).await?;
    let table = "select count(*) from sqlite_schema where name = 'duologue_migrations'";
    let count: i64 = query_scalar(table).fetch_one(&mut *connection).await?;
    let applied: Option<String> = if count == 0 {
        None
    } else {
        let list = "select group_concat(line, ', ') from (
                select version || ' ' || description || iif(success, '', ' (failed)') as line
                from duologue_migrations order by version
            )";
        query_scalar(list).fetch_one(connection).await?
    };
    Ok(Found::from_lists(applied.as_deref(), tables.as_deref()))
}

/// Looks at the file. It is neither created nor migrated; beside it, its lock file may appear.
pub(crate) async fn check(path: &Path, config: &StoreConfig) -> Result<Condition, OpenError> {
    let file = match DatabaseFile::lock(path, config.busy_timeout) {
        Err(OpenError::InUse { .. }) => return Ok(Condition::InUse),
        // The lock lies in the same folder, so there is a folder, and it can be written to.
        locked => locked?,
    };
    if !path.exists() {
        return Ok(Condition::MigratedAtStart { schema: 0 });
    }
    let unusable = |source| file.unusable(source);
    let mut connection = file.existing().connect().await.map_err(unusable)?;
    // Only a transaction that may write tells whether one may.
    let transaction = connection.begin_with("begin immediate").await;
    let mut transaction = transaction.map_err(unusable)?;
    let version = check_tables(path, &mut transaction).await?;
    transaction.rollback().await.map_err(unusable)?;
    connection.close().await.map_err(unusable)?;
    Ok(if version < NEEDED {
        Condition::MigratedAtStart { schema: version }
    } else {
        Condition::Ready { schema: version }
    })
}

/// Reads the version of the tables, 0 if they have yet to be made or brought over, and refuses those that
/// are unknown or too new.
pub(super) async fn check_tables(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<i64, OpenError> {
    let unusable = |source| unusable(path, source);
    match find(connection).await.map_err(unusable)? {
        Found::Ours => {}
        Found::Unknown(found) => {
            return Err(OpenError::UnknownTables {
                place: path.display().to_string(),
                found,
            });
        }
        Found::Nothing | Found::Unreleased | Found::Predecessors => return Ok(0),
    }
    let last = "select coalesce(max(version), 0) from duologue_migrations where success";
    let version = query_scalar(last)
        .fetch_one(connection)
        .await
        .map_err(unusable)?;
    match migrations::age(version) {
        Age::TooNew => Err(too_new(path, version)),
        Age::TooOld | Age::Fit => Ok(version),
    }
}
