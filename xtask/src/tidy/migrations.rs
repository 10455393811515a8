//! Migrations come in pairs, one file for each database under the same name; and `schema.sql` is
//! what is made of those for Postgres.

use std::collections::BTreeSet;

use super::tree::{Rule, Tree, Violation};
use crate::schema::{self, MIGRATIONS, SCHEMA};

const FOLDERS: [&str; 2] = ["crates/duologue-store/migrations/sqlite/", MIGRATIONS];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let [sqlite, postgres] = FOLDERS.map(|folder| {
        let names = tree
            .0
            .iter()
            .filter_map(|text| text.path.strip_prefix(folder))
            // What brings other tables over is of one database only.
            .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()));
        names.collect::<BTreeSet<_>>()
    });
    let alone = |mine: &BTreeSet<&str>, others: &BTreeSet<&str>, [here, there]: [&str; 2]| {
        let alone = mine.difference(others).map(|name| {
            let message = format!(
                "{there}{name} is missing; a migration with nothing to do there is a comment that \
                 says so"
            );
            Violation::new(Rule::Migrations, &format!("{here}{name}"), 1, message)
        });
        alone.collect::<Vec<_>>()
    };
    let [first, second] = FOLDERS;
    let mut violations = alone(&sqlite, &postgres, [first, second]);
    violations.extend(alone(&postgres, &sqlite, [second, first]));
    violations
}

/// `schema.sql` is in step with the migrations.
pub(super) fn schema(tree: &Tree) -> Vec<Violation> {
    let migrations = tree.0.iter().filter_map(|text| {
        let name = text.path.strip_prefix(MIGRATIONS)?;
        Some((name, &*text.text))
    });
    let migrations: Vec<_> = migrations.collect();
    if migrations.is_empty() {
        return Vec::new();
    }
    let expected = match schema::schema(migrations) {
        Ok(expected) => expected,
        Err(error) => {
            return vec![Violation::new(
                Rule::Schema,
                MIGRATIONS,
                1,
                format!("{error:#}"),
            )];
        }
    };
    let present = tree.get(SCHEMA).map_or("", |text| &text.text);
    if present == expected {
        return Vec::new();
    }
    let same = present.lines().zip(expected.lines());
    let line = 1 + same
        .take_while(|(present, expected)| present == expected)
        .count();
    let message = format!("differs from {MIGRATIONS}; run `cargo xtask schema`");
    vec![Violation::new(Rule::Schema, SCHEMA, line, message)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_migration_without_its_twin_is_found_on_either_side() {
        let tree = Tree::of([
            ("crates/duologue-store/migrations/sqlite/0001_a.sql", ""),
            ("crates/duologue-store/migrations/sqlite/0002_b.sql", ""),
            ("crates/duologue-store/migrations/postgres/0001_a.sql", ""),
            ("crates/duologue-store/migrations/postgres/0002_c.sql", ""),
        ]);
        let paths: Vec<_> = check(&tree).into_iter().map(|found| found.path).collect();
        assert_eq!(
            paths,
            [
                "crates/duologue-store/migrations/sqlite/0002_b.sql",
                "crates/duologue-store/migrations/postgres/0002_c.sql",
            ]
        );
    }
    #[test]
    fn a_schema_that_is_missing_or_behind_is_found() {
        let file = "crates/duologue-store/migrations/postgres/0001_a.sql";
        let migration = (file, "select 1;\n");
        let missing = Tree::of([migration]);
        assert_eq!(schema(&missing)[0].path, "schema.sql");
        let made = schema::schema(vec![("0001_a.sql", "select 1;\n")]).unwrap();
        assert_eq!(schema(&Tree::of([migration, (SCHEMA, &made)])), []);
        let behind = Tree::of([(file, "select 2;\n"), (SCHEMA, &made)]);
        let line = made.lines().position(|line| line.contains("select 1;"));
        assert_eq!(Some(schema(&behind)[0].line), line.map(|line| line + 1));
    }
}
