//! Connecting for the first time, looking, and migrating.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Connection, Executor, PgConnection, Row, migrate::MigrateError,
    postgres::PgConnectOptions,
};
use tokio::time::timeout;

use super::{PostgresCaller, operators::PostgresOperatorStore};
use crate::{
    OpenError, StoreConfig,
    config::place,
    functions::FunctionStore,
    migrations::{self, Age, Found, SCHEMA},
};

/// How long a first connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes sure that the database is there, durable, and migrated, and opens the store in it.
pub(crate) async fn open(
    options: PgConnectOptions,
    config: &StoreConfig,
) -> Result<FunctionStore<PostgresCaller>, OpenError> {
    check(&options).await?;
    // Statements contain what users wrote.
    let options = fit_for_poolers(options).disable_statement_logging();
    Ok(FunctionStore::new(
        PostgresCaller::new(options, config),
        config,
    ))
}

/// The same, for operators.
pub(crate) async fn open_for_operators(
    options: PgConnectOptions,
    config: &StoreConfig,
) -> Result<PostgresOperatorStore, OpenError> {
    let store = open(options, config).await?;
    Ok(PostgresOperatorStore::new(store))
}

/// Makes sure that the database is there, durable, and migrated, and says which version its tables
/// are of. Changes nothing.
pub(crate) async fn check(options: &PgConnectOptions) -> Result<i64, OpenError> {
    let place = place(options);
    let options = fit_for_poolers(options.clone());
    let mut connection = connect(&options, &place).await?;
    check_durability(&mut connection, &place).await?;
    let version = check_tables(&mut connection, &place).await?;
    connection
        .close()
        .await
        .map_err(|source| unreachable_at(&place, source))?;
    Ok(version)
}

/// Migrates in one transaction, which is also what keeps others out: a lock of the session would
/// not work through a transaction pooler.
pub(crate) async fn migrate(options: &PgConnectOptions) -> Result<Vec<String>, OpenError> {
    let place = place(options);
    let options = fit_for_poolers(options.clone());
    let mut connection = connect(&options, &place).await?;
    let failed = |source: sqlx::Error| OpenError::Migration {
        place: place.clone(),
        source: source.into(),
    };
    let mut transaction = connection.begin().await.map_err(failed)?;
    // sqlx gives names to the statements of its migrator. Behind a pooler they would meet those
    // that somebody left on this connection, and stay there themselves.
    transaction
        .execute("deallocate all")
        .await
        .map_err(failed)?;
    // Waits for another migration, but not behind a query that runs for hours while all others
    // queue up behind us.
    let lock = "select pg_advisory_xact_lock(hashtext('duologue_migrations'))";
    transaction
        .execute(sqlx::raw_sql(lock))
        .await
        .map_err(failed)?;
    transaction
        .execute("set local lock_timeout = '10s'")
        .await
        .map_err(failed)?;
    let applied = apply(&mut transaction).await;
    let applied = applied.map_err(|source| OpenError::Migration {
        place: place.clone(),
        source: source.into(),
    })?;
    transaction
        .execute("deallocate all")
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    Ok(applied)
}

/// Brings the tables up to date, or over, and returns the names of what was applied.
async fn apply(connection: &mut PgConnection) -> Result<Vec<String>, MigrateError> {
    migrations::prepare(connection).await?;
    connection
        .execute(sqlx::raw_sql(migrations::POSTGRES_FIND))
        .await?;
    let row = connection
        .fetch_one("select current_setting('duologue.found')")
        .await?;
    let upgrade = migrations::postgres_upgrade(&Found::from_name(row.try_get(0)?));
    let migrator = migrations::postgres();
    if let Some(upgrade) = &upgrade {
        connection.execute(sqlx::raw_sql(upgrade.before)).await?;
    }
    let mut applied = migrations::run(&migrator, connection, Some(SCHEMA)).await?;
    if let Some(upgrade) = &upgrade {
        connection.execute(sqlx::raw_sql(upgrade.after)).await?;
    }
    applied.extend(migrations::run(&migrator, connection, None).await?);
    Ok(applied)
}

fn fit_for_poolers(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name("duologue")
        .statement_cache_capacity(0)
        // A parameter that poolers refuse, and that matters only for numbers sent as text.
        .extra_float_digits(None)
}

async fn connect(options: &PgConnectOptions, place: &str) -> Result<PgConnection, OpenError> {
    let connecting = timeout(CONNECT_TIMEOUT, options.connect());
    let connected = connecting.await.unwrap_or_else(|_| {
        let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(sqlx::Error::Io(error))
    });
    connected.map_err(|source| match source {
        // The server speaks: so it is not the way there that is wrong.
        sqlx::Error::Database(_) => OpenError::Refused {
            place: place.to_owned(),
            source,
        },
        source => unreachable_at(place, source),
    })
}

async fn check_durability(connection: &mut PgConnection, place: &str) -> Result<(), OpenError> {
    let row = connection.fetch_one("show synchronous_commit").await;
    let value: String = row
        .and_then(|row| row.try_get(0))
        .map_err(|source| unreachable_at(place, source))?;
    if value == "off" {
        return Err(OpenError::NotDurable {
            place: place.to_owned(),
            setting: "synchronous_commit",
            value,
        });
    }
    Ok(())
}

async fn check_tables(connection: &mut PgConnection, place: &str) -> Result<i64, OpenError> {
    let row = connection.fetch_one("select duologue_version()").await;
    let version = match row.and_then(|row| row.try_get::<Option<i64>, _>(0)) {
        Ok(version) => version.unwrap_or(0),
        // There is no such function.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42883") => 0,
        Err(source @ sqlx::Error::Database(_)) => {
            return Err(OpenError::Refused {
                place: place.to_owned(),
                source,
            });
        }
        Err(source) => return Err(unreachable_at(place, source)),
    };
    match migrations::age(version) {
        Age::Fit => Ok(version),
        Age::TooOld => Err(OpenError::NotMigrated {
            place: place.to_owned(),
        }),
        Age::TooNew => Err(OpenError::TooNew {
            place: place.to_owned(),
            version,
        }),
    }
}

fn unreachable_at(place: &str, source: sqlx::Error) -> OpenError {
    OpenError::Unreachable {
        place: place.to_owned(),
        source,
    }
}
