//! Documents that must match other files: the table of settings, and links between files.

use std::path::{Component, Path, PathBuf};

use crate::settings::{self, DEFAULTS, DOCUMENT};

use super::tree::{Rule, Text, Tree, Violation};

/// Every setting has a comment, and a row with the same text in the operators' table.
pub(super) fn settings(tree: &Tree) -> Vec<Violation> {
    let violation = |path, line, message: &str| Violation::new(Rule::Settings, path, line, message);
    // Without the defaults the table must be empty, so a missing file is noticed.
    let defaults = tree.get(DEFAULTS).map_or("", |text| &text.text);
    let Some(document) = tree.get(DOCUMENT) else {
        return vec![violation(DOCUMENT, 1, "is missing")];
    };
    let settings = match settings::settings(defaults) {
        Ok(settings) => settings,
        Err(error) => return vec![violation(DEFAULTS, 1, &format!("{error:#}"))],
    };
    let rows = settings::table_in(&document.text).unwrap_or_default();
    let mut violations = Vec::new();
    for setting in &settings {
        let key = &setting.key;
        if setting.about.is_empty() {
            let message = format!("`{key}` needs a comment above it");
            violations.push(violation(DEFAULTS, setting.line, &message));
        }
        if !rows.contains(&format!("\n| `{key}` | ")) {
            let message = format!("`{key}` has no row in {DOCUMENT}; run `cargo xtask settings`");
            violations.push(violation(DEFAULTS, setting.line, &message));
        }
    }
    if settings::table_in(&document.text) != Some(&settings::table(&settings)) {
        let message = format!("the table differs from {DEFAULTS}; run `cargo xtask settings`");
        violations.push(violation(DOCUMENT, 1, &message));
    }
    violations
}

/// A link from a document to a file leads to a file that exists.
pub(super) fn links(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for text in tree.0.iter().filter(|text| text.is(&["md"])) {
        for (line, target) in targets(text) {
            let there = resolve(&text.path, target);
            let is_there = |text: &Text| Path::new(&text.path).starts_with(&there);
            if !tree.0.iter().any(is_there) {
                let message = format!("the link to `{target}` is broken: there is no such file");
                violations.push(Violation::new(Rule::Links, &text.path, line, message));
            }
        }
    }
    violations
}

/// A path in backticks that begins with one of our folders is that of a file or a folder.
pub(super) fn paths(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for text in tree.0.iter().filter(|text| text.is(&["md"])) {
        for (line, content) in text.lines() {
            for path in content
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|code| is_path(code))
            {
                let exists = |text: &Text| Path::new(&text.path).starts_with(path);
                if !tree.0.iter().any(exists) {
                    let message = format!("`{path}` does not exist");
                    violations.push(Violation::new(Rule::Paths, &text.path, line, message));
                }
            }
        }
    }
    violations
}

/// Whether it looks like a path from the root of the project.
fn is_path(code: &str) -> bool {
    let folders = [
        "bench/", "config/", "crates/", "deploy/", "docs/", "testing/", "web/", "xtask/",
    ];
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-".contains(letter);
    folders.iter().any(|folder| code.starts_with(folder))
        && !code.contains("NNNN")
        && code.chars().all(is_plain)
}

/// The targets of `[text](target)` that are files, without what follows `#`.
fn targets(text: &Text) -> impl Iterator<Item = (usize, &str)> {
    text.lines().flat_map(|(line, content)| {
        let starts = content.split("](").skip(1);
        let targets = starts.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        let files = targets.filter_map(|target| target.split('#').next());
        let files = files.filter(|file| !file.is_empty() && !file.contains(':'));
        files.map(move |file| (line, file))
    })
}

/// The path from the root of a link in `document`.
fn resolve(document: &str, target: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let folder = Path::new(document).parent().unwrap_or(Path::new(""));
    for component in folder.join(target).components() {
        match component {
            Component::ParentDir => {
                path.pop();
            }
            Component::CurDir => {}
            other => path.push(other),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tree: &Tree, check: fn(&Tree) -> Vec<Violation>) -> Vec<String> {
        check(tree).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn a_setting_without_a_comment_or_a_row_is_found() {
        let tree = Tree::of([
            (DEFAULTS, "[a]\n# Explained.\nb = 1\n\nc = 2\n"),
            (DOCUMENT, "`a.b` is somewhere, but not in a table\n"),
        ]);
        assert_eq!(
            found(&tree, settings),
            [
                "config/default.toml:3: `a.b` has no row in docs/operations.md; run `cargo xtask settings`",
                "config/default.toml:5: `a.c` needs a comment above it",
                "config/default.toml:5: `a.c` has no row in docs/operations.md; run `cargo xtask settings`",
                "docs/operations.md:1: the table differs from config/default.toml; run `cargo xtask settings`",
            ]
        );
    }

    /// Goal: no setting can be dropped from the operators' table unnoticed. Method: each row is
    /// deleted from the real document, and its key must be reported.
    #[test]
    fn a_deleted_row_of_a_setting_is_found() {
        let root = crate::root();
        let read = |path| std::fs::read_to_string(root.join(path)).unwrap();
        let (defaults, document) = (read(DEFAULTS), read(DOCUMENT));
        let keys = settings::settings(&defaults).unwrap();
        assert!(!keys.is_empty());
        for settings::Setting { key, line, .. } in &keys {
            let is_row = |text: &&str| text.starts_with(&format!("| `{key}` |"));
            let kept: String = document
                .split_inclusive('\n')
                .filter(|line| !is_row(line))
                .collect();
            let tree = Tree::of([(DEFAULTS, &defaults), (DOCUMENT, &kept)]);
            let expected = format!(
                "{DEFAULTS}:{line}: `{key}` has no row in {DOCUMENT}; run `cargo xtask settings`"
            );
            assert_eq!(found(&tree, settings)[0], expected);
        }
    }

    #[test]
    fn a_table_that_is_missing_or_about_nothing_is_found() {
        assert_eq!(found(&Tree::of([(DEFAULTS, "")]), settings).len(), 1);
        assert_eq!(
            found(&Tree::of([(DOCUMENT, "no table\n")]), settings).len(),
            1
        );
    }

    #[test]
    fn a_path_that_does_not_exist_is_found() {
        let document = "`docs/a.md`, `docs` and `docs/`\n`docs/b.md` `crates/{x,y}`\n`a/b`\n";
        let tree = Tree::of([("docs/a.md", document)]);
        assert_eq!(
            found(&tree, paths),
            ["docs/a.md:2: `docs/b.md` does not exist"]
        );
    }

    #[test]
    fn a_broken_link_is_found() {
        let tree = Tree::of([
            (
                "docs/a.md",
                "[b](b.md#part) [up](../README.md)\n[gone](c.md) [web](https://x.y)\n",
            ),
            ("docs/b.md", "[self](#part) [folder](../docs)\n"),
            ("README.md", "[a](docs/a.md), [gone](./docs/c.md)\n"),
        ]);
        assert_eq!(
            found(&tree, links),
            [
                "docs/a.md:2: the link to `c.md` is broken: there is no such file",
                "README.md:1: the link to `./docs/c.md` is broken: there is no such file",
            ]
        );
    }
}
