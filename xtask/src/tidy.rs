//! The house rules that no other tool checks, each in a file of its own.
//!
//! A checker is a function from the tree to all the violations it finds. It also runs as a test, so
//! that plain `cargo test` notices. What a checker is allowed to overlook is in [`EXCEPTIONS`].

mod arrows;
mod documents;
mod files;
mod machines;
mod migrations;
mod promises;
mod wire;

use std::{fmt, fs, path::Path};

use anyhow::Context;

use crate::{
    external::{output, program},
    steps::Outcome,
};

const CHECKERS: &[fn(&Tree) -> Vec<Violation>] = &[
    files::headers,
    files::lengths,
    files::names,
    files::words,
    arrows::check,
    migrations::check,
    migrations::schema,
    wire::check,
    documents::settings,
    documents::links,
    promises::check,
    machines::check,
];

/// Where a rule does not hold.
struct Exception {
    rule: Rule,
    path: &'static str,
    /// For people; a reason that no longer convinces is an exception to be removed.
    #[expect(dead_code, reason = "it is there to be read here")]
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
];

/// What a violation is about, as [`EXCEPTIONS`] refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Headers,
    Lengths,
    Names,
    Words,
    Arrows,
    Migrations,
    Schema,
    Wire,
    Settings,
    Links,
    Promises,
    Machines,
}

/// A place where a rule is broken, and what to do about it.
#[derive(Debug, PartialEq)]
struct Violation {
    rule: Rule,
    path: String,
    /// Counted from 1.
    line: usize,
    message: String,
}

impl Violation {
    fn new(rule: Rule, path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            rule,
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// The files that belong to the project, by path from its root.
struct Tree(Vec<Text>);

struct Text {
    path: String,
    text: String,
}

impl Text {
    fn is(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension();
        extensions
            .iter()
            .any(|allowed| extension == Some(allowed.as_ref()))
    }

    /// Its lines, counted from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

impl Tree {
    /// What git tracks or would track: a new file is checked before it is added.
    fn read(root: &Path) -> anyhow::Result<Self> {
        let arguments = "ls-files -z --cached --others --exclude-standard --deduplicate";
        let paths = output(program("git", root).args(arguments.split(' ')))?;
        let mut texts = Vec::new();
        for path in paths.split_terminator('\0') {
            let file = root.join(path);
            // Git still lists what was deleted but not yet committed, and links to folders.
            if !file.is_file() {
                continue;
            }
            let bytes = fs::read(&file).with_context(|| format!("{path} cannot be read"))?;
            texts.push(Text {
                path: path.to_owned(),
                // What is not text, such as a picture, has no lines to check; but links lead to it.
                text: String::from_utf8(bytes).unwrap_or_default(),
            });
        }
        anyhow::ensure!(
            !texts.is_empty(),
            "git lists no files in {}",
            root.display()
        );
        Ok(Self(texts))
    }

    fn get(&self, path: &str) -> Option<&Text> {
        self.0.iter().find(|text| text.path == path)
    }

    #[cfg(test)]
    fn of<const N: usize>(texts: [(&str, &str); N]) -> Self {
        let text = |(path, text): (&str, &str)| Text {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        Self(texts.map(text).into())
    }
}

/// The step.
pub(crate) fn run(root: &Path) -> anyhow::Result<Outcome> {
    let violations = violations(&Tree::read(root)?, EXCEPTIONS);
    for violation in &violations {
        eprintln!("{violation}");
    }
    anyhow::ensure!(violations.is_empty(), "{} places to tidy", violations.len());
    Ok(Outcome::Done)
}

/// Everything that is wrong, an exception that excuses nothing included.
fn violations(tree: &Tree, exceptions: &[Exception]) -> Vec<Violation> {
    let found: Vec<_> = CHECKERS.iter().flat_map(|check| check(tree)).collect();
    let excuses = |exception: &Exception, violation: &Violation| {
        exception.rule == violation.rule && exception.path == violation.path
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
