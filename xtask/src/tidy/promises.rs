//! Guarantees are tested: every test that `docs/reliability.md` or `docs/security.md` names exists.

use std::{collections::BTreeSet, path::Path};

use super::tree::{Rule, Text, Tree, Violation};

const DOCUMENT: &str = "docs/reliability.md";

/// It names tests as `it file::test`.
const SECURITY: &str = "docs/security.md";

/// A contract's properties are functions that a macro makes tests of, for each implementation.
const CONTRACT: &str = "/conformance/";

/// A row of a table: its line, its number, and the tests in its last cell.
type Row<'a> = (usize, &'a str, Vec<&'a str>);

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let violation = |line, message: String| Violation::new(Rule::Promises, DOCUMENT, line, message);
    let Some(document) = tree.get(DOCUMENT) else {
        return vec![violation(1, "is missing".to_owned())];
    };
    let tests: BTreeSet<String> = tree.0.iter().flat_map(tests).collect();
    let mut violations = Vec::new();
    let mut numbers = BTreeSet::new();
    for (line, number, named) in rows(document) {
        if !numbers.insert(number) {
            violations.push(violation(line, format!("{number} has a row already")));
        }
        if named.is_empty() {
            violations.push(violation(line, format!("no test is named for {number}")));
        }
        for name in named.iter().filter(|name| !tests.contains(**name)) {
            let message = format!("there is no test `{name}` (written as `crate::file::test`)");
            violations.push(violation(line, message));
        }
    }
    if numbers.is_empty() {
        violations.push(violation(
            1,
            "has no row that begins with a number".to_owned(),
        ));
    }
    violations
}

/// Every guarantee of the page on security says how it is checked, and the tests that it names exist.
pub(super) fn security(tree: &Tree) -> Vec<Violation> {
    let violation = |line, message: &str| Violation::new(Rule::Promises, SECURITY, line, message);
    let Some(document) = tree.get(SECURITY) else {
        return vec![violation(1, "is missing")];
    };
    let tests: BTreeSet<String> = tree.0.iter().flat_map(tests).collect();
    let mut violations = Vec::new();
    for (line, content) in document.lines() {
        if content.starts_with("| ") && !content.starts_with("| **") && content.ends_with("| |") {
            violations.push(violation(line, "this row does not say how it is checked"));
        }
        for name in content.split('`').skip(1).step_by(2) {
            let Some((file, test)) = name.strip_prefix("it ").and_then(|it| it.rsplit_once("::"))
            else {
                continue;
            };
            let stem = file.rsplit("::").next().unwrap_or(file);
            if !tests.contains(&format!("integration::{stem}::{test}")) {
                violations.push(violation(line, &format!("there is no test `{name}`")));
            }
        }
    }
    violations
}

/// The rows that begin with a number.
fn rows(document: &Text) -> impl Iterator<Item = Row<'_>> {
    document.lines().filter_map(|(line, content)| {
        let mut cells = content.strip_prefix('|')?.strip_suffix('|')?.split('|');
        let number = cells.next()?.trim();
        number.parse::<u32>().ok()?;
        let named = cells.next_back()?.split('`').skip(1).step_by(2);
        Some((line, number, named.collect()))
    })
}

/// The tests of a file, as the document writes them.
fn tests(text: &Text) -> Vec<String> {
    let Some((name, _)) = text
        .path
        .strip_prefix("crates/")
        .or_else(|| text.path.strip_prefix("testing/"))
        .and_then(|path| path.split_once('/'))
    else {
        return Vec::new();
    };
    let name = name.strip_prefix("duologue-").unwrap_or(name);
    let path = Path::new(&text.path);
    // `attempt/tests.rs` holds the tests of `attempt.rs`.
    let is_beside = path.file_name() == Some("tests.rs".as_ref());
    let file = if is_beside { path.parent() } else { Some(path) };
    let stem = file.and_then(Path::file_stem).unwrap_or_default();
    let stem = stem.to_string_lossy();
    let mut found = Vec::new();
    let mut is_test = false;
    for line in text.text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        let is_property = text.path.contains(CONTRACT) && line.starts_with("pub async fn ");
        let Some(function) = line.split_once("fn ").map(|(_, rest)| rest) else {
            continue;
        };
        // A comment may speak of functions between the attribute and the test.
        if line.starts_with("//") {
            continue;
        }
        if is_test || is_property {
            let end = function.find(['(', '<']).unwrap_or(function.len());
            found.push(format!("{name}::{stem}::{}", &function[..end]));
        }
        is_test = false;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "#[tokio::test(start_paused = true)]\n// fn of old\nasync fn it_holds() {}\n\
        fn helper() {}\n    #[test]\n    fn it_is_so() {}\n";

    fn found(document: &str) -> Vec<String> {
        let tree = Tree::of([
            (DOCUMENT, document),
            ("crates/duologue-engine/tests/engine/lifecycle.rs", CODE),
            ("crates/duologue-llm/src/sse/tests.rs", CODE),
            (
                "crates/duologue-engine/src/store/conformance/log.rs",
                "pub async fn a_log_is_read(store: &dyn Store) {}\nasync fn help() {}\n",
            ),
        ]);
        check(&tree).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn tests_and_properties_of_contracts_may_be_named() {
        let row = "| 1 | x | `engine::lifecycle::it_holds` `llm::sse::it_is_so` `engine::log::a_log_is_read` |\n";
        assert_eq!(found(row), [""; 0]);
    }

    #[test]
    fn a_promise_without_a_test_is_found() {
        let rows = "| # | fault | tests |\n|---|---|---|\n| 1 | x | `engine::lifecycle::helper` |\n\
            | 2 | `engine::lifecycle::it_holds` | |\n| 2 | y | `life::it_holds` `engine::log::help` |\n";
        assert_eq!(
            found(rows),
            [
                "docs/reliability.md:3: there is no test `engine::lifecycle::helper` (written as `crate::file::test`)",
                "docs/reliability.md:4: no test is named for 2",
                "docs/reliability.md:5: 2 has a row already",
                "docs/reliability.md:5: there is no test `life::it_holds` (written as `crate::file::test`)",
                "docs/reliability.md:5: there is no test `engine::log::help` (written as `crate::file::test`)",
            ]
        );
    }

    #[test]
    fn a_guarantee_of_security_without_a_test_is_found() {
        let page = "| a | b | `it a::b::it_is_so` `it b` |\n| **part** | | |\n| a | b | |\n\
            | a | b | `it a::b::helper` |\n";
        let tree = Tree::of([
            (SECURITY, page),
            ("testing/integration/tests/it/a/b.rs", CODE),
        ]);
        let found: Vec<_> = security(&tree).iter().map(Violation::to_string).collect();
        assert_eq!(
            found,
            [
                "docs/security.md:3: this row does not say how it is checked",
                "docs/security.md:4: there is no test `it a::b::helper`",
            ]
        );
        assert_eq!(security(&Tree::of([])).len(), 1);
    }

    #[test]
    fn a_page_that_promises_nothing_is_found() {
        assert_eq!(found("nothing\n").len(), 1);
    }
}
