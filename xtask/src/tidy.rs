//! The project's rules that no other tool checks, each in a file of its own.
//!
//! A checker is a function from the tree to all the violations it finds. It also runs as a test, so
//! that plain `cargo test` notices. [`EXCEPTIONS`] lists the violations that are accepted.

mod arrows;
mod cycles;
mod documents;
mod files;
mod imports;
mod language;
mod machines;
mod migrations;
mod modules;
mod promises;
mod sizes;
mod tree;
mod type_names;

use std::path::Path;

use self::tree::{Rule, Tree, Violation};
use crate::outcome::Outcome;

const CHECKERS: &[fn(&Tree) -> Vec<Violation>] = &[
    files::headers,
    files::lengths,
    files::names,
    files::words,
    arrows::check,
    migrations::check,
    migrations::schema,
    documents::settings,
    documents::links,
    documents::paths,
    promises::check,
    promises::security,
    machines::check,
    structure,
    language::check,
    sizes::check,
];

/// A file or folder in which violations of a rule are accepted.
struct Exception {
    rule: Rule,
    /// A file, or with `/` at its end all files in a folder.
    path: &'static str,
    /// For readers; when the reason is no longer valid, the exception is to be removed.
    #[expect(dead_code, reason = "it is only read in this file")]
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        rule: Rule::Machines,
        path: "xtask/src/tidy/machines.rs",
        reason: "it names what it looks for",
    },
    Exception {
        rule: Rule::Words,
        path: "xtask/src/tidy/files.rs",
        reason: "it names what it looks for",
    },
    Exception {
        rule: Rule::Language,
        path: "xtask/src/tidy/language.rs",
        reason: "it names what it looks for",
    },
    Exception {
        rule: Rule::Language,
        path: "testing/integration/tests/contract/schema/unreleased.sql",
        reason: "the schema of an older build, as it was",
    },
    Exception {
        rule: Rule::Language,
        path: "testing/integration/tests/contract/schema/unreleased_sqlite.sql",
        reason: "the schema of an older build, as it was",
    },
];

/// The step.
pub(crate) fn run(root: &Path) -> anyhow::Result<Outcome> {
    let violations = violations(&Tree::read(root)?, EXCEPTIONS);
    for violation in &violations {
        eprintln!("{violation}");
    }
    anyhow::ensure!(violations.is_empty(), "{} violations", violations.len());
    Ok(Outcome::Done)
}

/// The command that writes the table of sizes in `ARCHITECTURE.md`.
pub(crate) fn write_sizes(root: &Path) -> anyhow::Result<Outcome> {
    sizes::write(root, &Tree::read(root)?)?;
    Ok(Outcome::Done)
}

/// The rules about modules, whose files are read once for all of them.
fn structure(tree: &Tree) -> Vec<Violation> {
    let (crates, mut violations) = modules::crates(tree);
    for modules in &crates {
        violations.extend(cycles::check(modules));
        violations.extend(type_names::check(modules));
    }
    violations
}

/// All violations that no exception accepts, and all exceptions that accept none.
fn violations(tree: &Tree, exceptions: &[Exception]) -> Vec<Violation> {
    let found: Vec<_> = CHECKERS.iter().flat_map(|check| check(tree)).collect();
    let excuses = |exception: &Exception, violation: &Violation| {
        let is_folder = exception.path.ends_with('/');
        exception.rule == violation.rule
            && (exception.path == violation.path
                || is_folder && violation.path.starts_with(exception.path))
    };
    let stale = exceptions
        .iter()
        .filter(|exception| !found.iter().any(|violation| excuses(exception, violation)))
        .map(|Exception { rule, path, .. }| {
            let message = format!("the exception of {path} from {rule:?} is not needed; remove it");
            Violation::new(*rule, "xtask/src/tidy.rs", 1, message)
        })
        .collect::<Vec<_>>();
    found
        .into_iter()
        .filter(|violation| {
            !exceptions
                .iter()
                .any(|exception| excuses(exception, violation))
        })
        .chain(stale)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a broken rule fails plain `cargo test`, not only CI.
    #[test]
    fn the_project_is_tidy() {
        let tree = Tree::read(&crate::root()).unwrap();
        let violations = violations(&tree, EXCEPTIONS);
        let shown: Vec<_> = violations.iter().map(Violation::to_string).collect();
        assert!(shown.is_empty(), "{}", shown.join("\n"));
    }

    #[test]
    fn an_exception_excuses_its_rule_in_its_file_and_nothing_else() {
        let long = format!("//! Long.\n{}", "x\n".repeat(600));
        let tree = Tree::of([
            ("crates/a/src/long.rs", &long),
            ("crates/a/src/other.rs", &long),
        ]);
        let exception = |rule, path| Exception {
            rule,
            path,
            reason: "a test",
        };
        let paths = |exceptions: &[Exception]| -> Vec<String> {
            let violations = violations(&tree, exceptions).into_iter();
            let of_length = violations.filter(|violation| violation.rule == Rule::Lengths);
            of_length.map(|violation| violation.path).collect()
        };
        assert_eq!(
            paths(&[]),
            ["crates/a/src/long.rs", "crates/a/src/other.rs"]
        );
        let excused = exception(Rule::Lengths, "crates/a/src/long.rs");
        assert_eq!(paths(&[excused]), ["crates/a/src/other.rs"]);
        let stale = exception(Rule::Lengths, "crates/a/src/gone.rs");
        assert!(paths(&[stale]).contains(&"xtask/src/tidy.rs".to_owned()));
    }
}
