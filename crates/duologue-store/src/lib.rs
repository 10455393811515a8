//! Where sessions are kept: SQLite for one server, Postgres for several, either directly or through
//! the REST interface of a Supabase project.
//!
//! [`open`] makes a [`Store`] of what the configuration says. All backends have the same tables and
//! pass the same contract suite, and all have one writer that commits together what arrives during a
//! commit: SQLite in one transaction (`sqlite::writer`), Postgres by one call of a SQL function
//! (`functions::writer`), so that it also works through a transaction pooler, and over HTTP.

mod condition;
mod config;
mod error;
mod functions;
mod migrations;
mod postgres;
mod sqlite;
mod sqlstate;
mod stored;
mod supabase;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use duologue_engine::store::{Store, operators::OperatorStore};

#[cfg(feature = "testing")]
pub use crate::supabase::fuzz;
pub use crate::{condition::Condition, config::StoreConfig, error::OpenError};
use crate::{
    config::Backend,
    functions::{FunctionCaller, FunctionStore},
    sqlite::{SqliteOperatorStore, SqliteStore},
};

/// Opens the store, so that the first request finds it ready.
///
/// A SQLite file is created and migrated as needed, and belongs to this process until the store is
/// closed. A Postgres database must have been migrated before; see [`migrate`]. If it was restored from a
/// backup since it was last opened, every log gets a new id first.
///
/// For a Supabase project, the process must have chosen its TLS implementation before
/// (`rustls::crypto::aws_lc_rs::default_provider().install_default()`), or this panics.
pub async fn open(config: &StoreConfig) -> Result<Arc<dyn Store>, OpenError> {
    Ok(match config.backend()? {
        Backend::Sqlite(file) => Arc::new(SqliteStore::open(&file, config).await?),
        Backend::Postgres(options) => {
            let store = postgres::open(*options, config).await?;
            Arc::new(at_its_origin(store).await?)
        }
        Backend::Supabase(target) => {
            let store = supabase::open(*target, config).await?;
            Arc::new(at_its_origin(store).await?)
        }
    })
}

/// Checks whether the database was restored from a backup, and logs it.
async fn at_its_origin<C: FunctionCaller>(
    store: FunctionStore<C>,
) -> Result<FunctionStore<C>, OpenError> {
    let check = store.check_origin().await;
    check
        .map_err(|failure| OpenError::Origin(failure.into()))?
        .log();
    Ok(store)
}

/// Opens the operator's view of the store, beside whatever server uses it: a SQLite file is not
/// locked, nothing is migrated, and nothing is written unless a job is to be tried again.
///
/// Needs what [`open`] needs.
pub async fn open_for_operators(config: &StoreConfig) -> Result<Arc<dyn OperatorStore>, OpenError> {
    Ok(match config.backend()? {
        Backend::Sqlite(file) => Arc::new(SqliteOperatorStore::open(&file, config).await?),
        Backend::Postgres(options) => {
            Arc::new(postgres::open_for_operators(*options, config).await?)
        }
        Backend::Supabase(target) => Arc::new(supabase::open(*target, config).await?),
    })
}

/// Looks whether [`open`] would succeed, by one harmless round trip. Changes nothing; but beside a
/// SQLite file its lock file may appear. Needs what [`open`] needs.
pub async fn check(config: &StoreConfig) -> Result<Condition, OpenError> {
    match config.backend()? {
        Backend::Sqlite(file) => sqlite::check(&file, config).await,
        Backend::Postgres(options) => {
            let schema = postgres::check(&options).await?;
            Ok(Condition::Ready { schema })
        }
        Backend::Supabase(target) => {
            let schema = supabase::check(*target, config).await?;
            Ok(Condition::Ready { schema })
        }
    }
}

/// Brings the tables up to date and says which migrations that took, oldest first; none if they
/// were up to date.
///
/// May be called by several processes at once: one of them does the work. A SQLite file must not be
/// open elsewhere.
pub async fn migrate(config: &StoreConfig) -> Result<Vec<String>, OpenError> {
    match config.backend()? {
        Backend::Sqlite(file) => sqlite::migrate(&file, config).await,
        Backend::Postgres(options) => postgres::migrate(&options).await,
        Backend::Supabase(target) => Err(OpenError::NotOverRest {
            place: target.place(),
        }),
    }
}
