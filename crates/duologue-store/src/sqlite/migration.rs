//! Applies the migrations to a SQLite file.
//!
//! The list, its checksums and the table in which they are recorded are those of sqlx's migrator, which made
//! the files of earlier builds and still migrates Postgres.

use std::{borrow::Cow, collections::BTreeMap, path::Path, time::Instant};

use duologue_engine::BoxError;
use rusqlite::{Connection, TransactionBehavior};
use sqlx::migrate::{MigrateError, Migration};

use super::file::{DatabaseFile, too_new, unusable};
use crate::{
    OpenError,
    migrations::{self, Age, Found, SCHEMA},
};

/// As sqlx makes it.
const TABLE: &str = "create table if not exists duologue_migrations (
        version BIGINT PRIMARY KEY,
        description TEXT NOT NULL,
        installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        success BOOLEAN NOT NULL,
        checksum BLOB NOT NULL,
        execution_time BIGINT NOT NULL
    )";

/// Brings the tables up to date, in one transaction, and returns the names of what was applied.
pub(super) fn apply(
    file: &DatabaseFile,
    connection: &mut Connection,
) -> Result<Vec<String>, OpenError> {
    check_tables(file.path(), connection)?;
    let unusable = |source| file.unusable(source);
    let not_migrated = |source| file.not_migrated(source);
    let found = find(connection).map_err(unusable)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let transaction = transaction.map_err(unusable)?;
    let applied = bring_up_to_date(&transaction, &found).map_err(not_migrated)?;
    transaction.commit().map_err(unusable)?;
    Ok(applied)
}

fn bring_up_to_date(connection: &Connection, found: &Found) -> Result<Vec<String>, BoxError> {
    connection.execute_batch(TABLE)?;
    let upgrade = migrations::sqlite_upgrade(found);
    if let Some(upgrade) = &upgrade {
        connection.execute_batch(upgrade.before)?;
    }
    let mut applied = run(connection, Some(SCHEMA))?;
    if let Some(upgrade) = &upgrade {
        connection.execute_batch(upgrade.after)?;
    }
    applied.extend(run(connection, None)?);
    Ok(applied)
}

/// Applies what is not applied yet, up to `target` or to the end, and returns the names of it.
fn run(connection: &Connection, target: Option<i64>) -> Result<Vec<String>, BoxError> {
    let recorded = recorded(connection)?;
    let mut names = Vec::new();
    for migration in migrations::sqlite().iter() {
        match recorded.get(&migration.version) {
            Some(Recorded { success: false, .. }) => {
                return Err(MigrateError::Dirty(migration.version).into());
            }
            Some(Recorded { checksum, .. }) if *checksum != *migration.checksum => {
                return Err(MigrateError::VersionMismatch(migration.version).into());
            }
            None if target.is_none_or(|target| migration.version <= target) => {
                run_script(connection, migration)?;
                names.push(migrations::name(migration));
            }
            _ => {}
        }
    }
    Ok(names)
}

/// A migration that the file says was applied.
struct Recorded {
    success: bool,
    checksum: Vec<u8>,
}

fn recorded(connection: &Connection) -> rusqlite::Result<BTreeMap<i64, Recorded>> {
    let mut statement =
        connection.prepare("select version, success, checksum from duologue_migrations")?;
    let rows = statement.query_map((), |row| {
        let recorded = Recorded {
            success: row.get(1)?,
            checksum: row.get(2)?,
        };
        Ok((row.get(0)?, recorded))
    })?;
    rows.collect()
}

fn run_script(connection: &Connection, migration: &Migration) -> rusqlite::Result<()> {
    let started = Instant::now();
    connection.execute_batch(migration.sql.as_str())?;
    let nanoseconds = i64::try_from(started.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let description: &Cow<'_, str> = &migration.description;
    connection.execute(
        "insert into duologue_migrations (version, description, success, checksum, execution_time)
        values (?1, ?2, true, ?3, ?4)",
        (
            migration.version,
            description,
            &*migration.checksum,
            nanoseconds,
        ),
    )?;
    Ok(())
}

/// Finds out what is in the file.
fn find(connection: &Connection) -> rusqlite::Result<Found> {
    let text = |sql| connection.query_row(sql, (), |row| row.get::<_, Option<String>>(0));
    let tables = text(
        "select group_concat(name, ', ') from (
            select name from sqlite_schema where type = 'table' and name in
                ('sessions', 'session_events', 'session_drafts', 'session_jobs', 'duologue_installation')
            order by name
        )",
    )?;
    let table = "select exists (select 1 from sqlite_schema where name = 'duologue_migrations')";
    let applied = if connection.query_row(table, (), |row| row.get(0))? {
        text(
            "select group_concat(line, ', ') from (
                select version || ' ' || description || iif(success, '', ' (failed)') as line
                from duologue_migrations order by version
            )",
        )?
    } else {
        None
    };
    Ok(Found::from_lists(applied.as_deref(), tables.as_deref()))
}

/// Reads the version of the tables, 0 if they have yet to be made or brought over, and refuses those that
/// are unknown or too new.
pub(super) fn check_tables(path: &Path, connection: &Connection) -> Result<i64, OpenError> {
    let unusable = |source| unusable(path, source);
    match find(connection).map_err(unusable)? {
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
    let version = connection
        .query_row(last, (), |row| row.get(0))
        .map_err(unusable)?;
    match migrations::age(version) {
        Age::TooNew => Err(too_new(path, version)),
        Age::TooOld | Age::Fit => Ok(version),
    }
}
