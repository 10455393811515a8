//! The migrations: a list that has each of them once, in both dialects.

use std::collections::BTreeSet;

use sqlx::{
    SqlStr,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};

/// Where applied migrations are recorded. Not sqlx's own name, since the database may belong to an
/// application that has migrations of its own.
const TABLE: &str = "duologue_migrations";

/// The version of the schema that this build needs.
pub(crate) const NEEDED: i64 = SCRIPTS[SCRIPTS.len() - 1].version;

/// The newest version that this build takes on trust. A build must run on newer tables during a
/// deploy, so a migration may take away only what builds this many migrations back have stopped
/// using; beyond that nobody knows.
pub(crate) const NEWEST: i64 = NEEDED + 10;

/// How tables are to this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Something is missing, or everything.
    TooOld,
    /// They have what this build uses.
    Fit,
    /// What this build uses may be gone.
    TooNew,
}

/// Judges tables by the last migration that was applied to them; 0 is none.
pub(crate) fn age(version: i64) -> Age {
    match version {
        ..NEEDED => Age::TooOld,
        NEEDED..=NEWEST => Age::Fit,
        _ => Age::TooNew,
    }
}

struct Script {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

const SCRIPTS: [Script; 5] = [
    Script {
        version: 0,
        name: "former_layouts",
        sqlite: include_str!("../migrations/sqlite/0000_former_layouts.sql"),
        postgres: include_str!("../migrations/postgres/0000_former_layouts.sql"),
    },
    Script {
        version: 1,
        name: "sessions",
        sqlite: include_str!("../migrations/sqlite/0001_sessions.sql"),
        postgres: include_str!("../migrations/postgres/0001_sessions.sql"),
    },
    Script {
        version: 2,
        name: "jobs",
        sqlite: include_str!("../migrations/sqlite/0002_jobs.sql"),
        postgres: include_str!("../migrations/postgres/0002_jobs.sql"),
    },
    Script {
        version: 3,
        name: "former_rows",
        sqlite: include_str!("../migrations/sqlite/0003_former_rows.sql"),
        postgres: include_str!("../migrations/postgres/0003_former_rows.sql"),
    },
    Script {
        version: 5,
        name: "operators",
        sqlite: include_str!("../migrations/sqlite/0005_operators.sql"),
        postgres: include_str!("../migrations/postgres/0005_operators.sql"),
    },
];

pub(crate) fn sqlite() -> Migrator {
    migrator(|script| script.sqlite)
}

pub(crate) fn postgres() -> Migrator {
    migrator(|script| script.postgres)
}

fn migrator(sql: impl Fn(&Script) -> &'static str) -> Migrator {
    let migrations = SCRIPTS.iter().map(|script| {
        let sql = SqlStr::from_static(sql(script));
        Migration::new(
            script.version,
            script.name.into(),
            MigrationType::Simple,
            sql,
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(TABLE);
    // sqlx would lock Postgres for the session, which a transaction pooler cannot do; our callers
    // see to it that one migrates at a time.
    migrator.set_locking(false);
    // An older build must be able to run against a newer schema during a deploy.
    migrator.set_ignore_missing(true);
    migrator
}

/// Applies what is not applied yet, and says what that was.
pub(crate) async fn run<C: Migrate>(
    migrator: &Migrator,
    connection: &mut C,
) -> Result<Vec<String>, MigrateError> {
    connection.ensure_migrations_table(TABLE).await?;
    let before = connection.list_applied_migrations(TABLE).await?;
    let before: BTreeSet<_> = before.iter().map(|applied| applied.version).collect();
    migrator.run_direct(None, connection, false).await?;
    let applied = migrator
        .iter()
        .filter(|migration| !before.contains(&migration.version));
    let names =
        applied.map(|migration| format!("{:04}_{}", migration.version, migration.description));
    Ok(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deploy migrates first, so old builds meet tables that are a little ahead of them.
    #[test]
    fn tables_a_little_ahead_are_fit_and_far_ahead_are_not() {
        for (version, expected) in [
            (0, Age::TooOld),
            (NEEDED - 1, Age::TooOld),
            (NEEDED, Age::Fit),
            (NEEDED + 1, Age::Fit),
            (NEWEST, Age::Fit),
            (NEWEST + 1, Age::TooNew),
        ] {
            assert_eq!(age(version), expected, "{version}");
        }
    }
}
