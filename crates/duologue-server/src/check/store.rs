//! The store: whether sessions can be stored.

use duologue_store::{Condition, OpenError, StoreConfig};

use crate::{
    check::report::{Row, where_to_fix},
    config::Settings,
    error_chain::error_chain,
};

pub(super) async fn check(config: &StoreConfig, settings: &Settings) -> Row {
    let place = config.describe();
    match duologue_store::check(config).await {
        Ok(Condition::Ready { schema }) => works(format!("{place}: responds, schema {schema}")),
        Ok(Condition::MigratedAtStart { schema: 0 }) => {
            works(format!("{place}: `duologue serve` will create its tables"))
        }
        Ok(Condition::MigratedAtStart { schema }) => works(format!(
            "{place}: responds, schema {schema}, which `duologue serve` will migrate"
        )),
        Ok(Condition::InUse) => works(format!("{place}: a running server has it open")),
        Err(error) => {
            let row = Row::fails("store", error_chain(&error));
            match advice(
                &error,
                &where_to_fix("store.url", "SUPABASE_DB_URL", settings),
            ) {
                Some(advice) => row.advise(advice),
                None => row,
            }
        }
    }
}

fn works(found: String) -> Row {
    Row::works("store", found)
}

/// What to do, unless the error itself says it. `url` is where the store's URL is set.
fn advice(error: &OpenError, url: &str) -> Option<String> {
    match error {
        OpenError::Unreachable { place, .. } => Some(unreachable_advice(place, url)),
        OpenError::Refused { .. } => Some(format!(
            "correct user, password and database in {url}; with Supabase's pooler the user's name \
             contains the project's"
        )),
        OpenError::Url(_) => Some(format!(
            "write {url} as postgres://USER:PASSWORD@HOST:PORT/DATABASE, with characters other \
             than letters and digits in the password as %XX"
        )),
        OpenError::NotDurable { .. } => Some(
            "reset it to its default for this database; otherwise acknowledged messages may be lost"
                .to_owned(),
        ),
        OpenError::Migration { .. } => Some("run `duologue migrate` to see the cause".to_owned()),
        OpenError::UnknownScheme
        | OpenError::UnescapedPassword
        | OpenError::NoFile
        | OpenError::SqliteParameters
        | OpenError::File { .. }
        | OpenError::InUse { .. }
        | OpenError::Sqlite { .. }
        | OpenError::NoSuchFile { .. }
        | OpenError::NotMigrated { .. }
        | OpenError::UnknownTables { .. }
        | OpenError::Origin(_)
        | OpenError::TooNew { .. }
        | OpenError::SupabaseUrl
        | OpenError::SupabaseKey
        | OpenError::SupabaseKeyIsPublic
        | OpenError::SupabaseSchema
        | OpenError::HttpClient(_)
        | OpenError::SupabaseUnreachable { .. }
        | OpenError::NotSupabase { .. }
        | OpenError::KeyRefused { .. }
        | OpenError::SchemaNotExposed { .. }
        | OpenError::FunctionsMissing { .. }
        | OpenError::SchemaOutOfDate { .. }
        | OpenError::NotOverRest { .. } => None,
    }
}

fn unreachable_advice(place: &str, url: &str) -> String {
    if is_direct_to_supabase(place) {
        format!(
            "this address of Supabase is IPv6 only; if this machine has no IPv6, set {url} to the URL \
             of the session pooler, which Supabase shows under Connect"
        )
    } else {
        format!("start the database, or correct host, port and `sslmode` in {url}")
    }
}

/// `db.PROJECT.supabase.co`, which has an IPv4 address only as a paid option.
fn is_direct_to_supabase(place: &str) -> bool {
    let host = place.split(':').next().unwrap_or_default();
    host.starts_with("db.") && host.ends_with(".supabase.co")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn without_ipv6_the_advice_is_supabases_pooler() {
        let advice = |place: &str| {
            let error = OpenError::Unreachable {
                place: place.to_owned(),
                source: io::Error::from(io::ErrorKind::NetworkUnreachable).into(),
            };
            advice(&error, "SUPABASE_DB_URL").unwrap()
        };
        assert!(advice("db.abcdefgh.supabase.co:5432/postgres").contains("IPv6 only"));
        for elsewhere in [
            "aws-0-eu-central-1.pooler.supabase.com:5432/postgres",
            "db.example.com:5432/chat",
        ] {
            assert!(advice(elsewhere).contains("start the database"));
        }
    }
}
