//! The migrations: a list that has each of them once, in both dialects; and how tables from before the
//! first of them are brought over.

use std::collections::BTreeSet;

use sqlx::{
    SqlStr,
    migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator},
};

/// Where applied migrations are recorded. Not sqlx's own name, since the database may belong to an
/// application that has migrations of its own.
const TABLE: &str = "duologue_migrations";

/// The version that creates the whole schema.
pub(crate) const SCHEMA: i64 = 1;

/// The version of the schema that this build needs.
pub(crate) const NEEDED: i64 = SCRIPTS[SCRIPTS.len() - 1].version;

/// The newest version that this build accepts. A build must run on newer tables during a deploy, so a
/// migration may remove only what builds this many migrations back have stopped using.
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

const SCRIPTS: [Script; 3] = [
    Script {
        version: 1,
        name: "schema",
        sqlite: include_str!("../migrations/sqlite/0001_schema.sql"),
        postgres: include_str!("../migrations/postgres/0001_schema.sql"),
    },
    Script {
        version: 2,
        name: "batches",
        sqlite: include_str!("../migrations/sqlite/0002_batches.sql"),
        postgres: include_str!("../migrations/postgres/0002_batches.sql"),
    },
    Script {
        version: 3,
        name: "servers",
        sqlite: include_str!("../migrations/sqlite/0003_servers.sql"),
        postgres: include_str!("../migrations/postgres/0003_servers.sql"),
    },
];

/// The migrations of a database that was made before the first release, as both databases recorded them.
const UNRELEASED: &str = "0 former_layouts, 1 sessions, 2 jobs, 3 former_rows, 4 renew_holds, \
                          5 operators, 6 tokens";

/// What is in a database before it is migrated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The schema; later migrations may be missing.
    Ours,
    /// No table with one of our names.
    Nothing,
    /// The tables of a build from before the first release, complete.
    Unreleased,
    /// The tables of this server's predecessors. Only in Postgres.
    Predecessors,
    /// Something else, which must not be touched: what it is, in words.
    Unknown(String),
}

impl Found {
    /// Decides by the migrations that are recorded, `1 schema, 2 …`, and by the tables that have our names.
    /// Postgres decides by the same rules in `find.sql`, which is also part of `schema.sql`.
    pub(crate) fn from_lists(applied: Option<&str>, tables: Option<&str>) -> Self {
        match (applied, tables) {
            (Some(UNRELEASED), _) => Self::Unreleased,
            (Some(applied), _) if applied == "1 schema" || applied.starts_with("1 schema, ") => {
                Self::Ours
            }
            (Some(applied), _) => Self::Unknown(format!("migrations {applied}")),
            (None, Some(tables)) => Self::Unknown(format!("tables {tables}")),
            (None, None) => Self::Nothing,
        }
    }

    /// Reads what `find.sql` says.
    pub(crate) fn from_name(name: &str) -> Self {
        match name {
            "ours" => Self::Ours,
            "nothing" => Self::Nothing,
            "unreleased" => Self::Unreleased,
            "predecessors" => Self::Predecessors,
            other => Self::Unknown(other.to_owned()),
        }
    }
}

/// The scripts that bring other tables over: one runs before the schema is created, one after.
pub(crate) struct Upgrade {
    pub(crate) before: &'static str,
    pub(crate) after: &'static str,
}

/// How a SQLite file is brought over that has other tables than ours.
pub(crate) fn sqlite_upgrade(found: &Found) -> Option<Upgrade> {
    (*found == Found::Unreleased).then_some(Upgrade {
        before: include_str!("../migrations/sqlite/unreleased/before.sql"),
        after: include_str!("../migrations/sqlite/unreleased/after.sql"),
    })
}

/// Finds out what a Postgres schema has, and refuses what it must not touch.
pub(crate) const POSTGRES_FIND: &str = include_str!("../migrations/postgres/find.sql");

/// How a Postgres schema is brought over that has other tables than ours.
pub(crate) fn postgres_upgrade(found: &Found) -> Option<Upgrade> {
    match found {
        Found::Unreleased => Some(Upgrade {
            before: include_str!("../migrations/postgres/unreleased/before.sql"),
            after: "",
        }),
        Found::Predecessors => Some(Upgrade {
            before: include_str!("../migrations/postgres/predecessors/before.sql"),
            after: include_str!("../migrations/postgres/predecessors/after.sql"),
        }),
        _ => None,
    }
}

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

/// Makes sure that there is a table of applied migrations.
pub(crate) async fn prepare<C: Migrate>(connection: &mut C) -> Result<(), MigrateError> {
    connection.ensure_migrations_table(TABLE).await
}

/// Applies what is not applied yet, up to `target` or to the end, and returns the names of it.
pub(crate) async fn run<C: Migrate>(
    migrator: &Migrator,
    connection: &mut C,
    target: Option<i64>,
) -> Result<Vec<String>, MigrateError> {
    let before = connection.list_applied_migrations(TABLE).await?;
    let before: BTreeSet<_> = before.iter().map(|applied| applied.version).collect();
    migrator.run_direct(target, connection, false).await?;
    let applied = migrator.iter().filter(|migration| {
        !before.contains(&migration.version)
            && target.is_none_or(|target| migration.version <= target)
    });
    Ok(applied.map(name).collect())
}

/// The name of a migration's file, without its ending.
pub(crate) fn name(migration: &Migration) -> String {
    format!("{:04}_{}", migration.version, migration.description)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_lists_of_migrations_are_recognised() {
        let unknown = |what: &str| Found::Unknown(what.to_owned());
        for (applied, tables, expected) in [
            (None, None, Found::Nothing),
            (Some("1 schema"), Some("sessions"), Found::Ours),
            (Some("1 schema, 2 feedback"), Some("sessions"), Found::Ours),
            (Some(UNRELEASED), Some("sessions"), Found::Unreleased),
            (
                Some("0 former_layouts, 1 sessions"),
                Some("sessions"),
                unknown("migrations 0 former_layouts, 1 sessions"),
            ),
            (
                Some("1 schemas"),
                Some("sessions"),
                unknown("migrations 1 schemas"),
            ),
            (
                None,
                Some("session_jobs, sessions"),
                unknown("tables session_jobs, sessions"),
            ),
        ] {
            assert_eq!(Found::from_lists(applied, tables), expected);
        }
    }

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
