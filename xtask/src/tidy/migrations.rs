//! Migrations come in pairs: one file for each database, under the same name.

use std::collections::BTreeSet;

use super::{Rule, Tree, Violation};

const FOLDERS: [&str; 2] = [
    "crates/duologue-store/migrations/sqlite/",
    "crates/duologue-store/migrations/postgres/",
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let [sqlite, postgres] = FOLDERS.map(|folder| {
        let names = tree
            .0
            .iter()
            .filter_map(|text| text.path.strip_prefix(folder));
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
}
