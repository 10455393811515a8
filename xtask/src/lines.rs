//! The sizes of the project's parts, for the map in `ARCHITECTURE.md`.
//!
//! Counted are lines that are neither blank nor only a comment. Lines of tests are counted apart: files
//! in folders called `tests` or `e2e`, files called `tests.rs`, and `mod tests` at the end of a file.

use std::{collections::BTreeMap, fmt::Write as _};

/// Where the table is.
pub(crate) const DOCUMENT: &str = "ARCHITECTURE.md";
const BEGIN: &str = "<!-- lines: written by `cargo xtask lines` -->\n";
const END: &str = "<!-- end of lines -->";

/// Figures are rounded, so that the table does not change with every commit.
const ROUNDED_TO: usize = 50;
/// By how much a figure may differ from the count: a tenth, or this if that is more.
const TOLERANCE_MIN: usize = 100;

/// One part of the project.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Part {
    about: String,
    code: usize,
    tests: usize,
}

/// Counts the parts, by folder, from the paths and texts of the project's files.
pub(crate) fn parts<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, Part> {
    let mut parts: BTreeMap<String, Part> = BTreeMap::new();
    for (path, text) in files {
        let Some(folder) = part_of(path) else {
            continue;
        };
        if path == format!("{folder}/Cargo.toml") {
            parts.entry(folder.clone()).or_default().about = description(text);
        } else if path == "web/index.html" {
            let part = parts.entry(folder.clone()).or_default();
            part.about = String::from("The demo page.");
        }
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        if !["rs", "js", "mjs", "ts", "css", "html", "sql"].contains(&extension) {
            continue;
        }
        let (code, tests) = split(path, text);
        let part = parts.entry(folder).or_default();
        part.code += count(code);
        part.tests += count(tests);
    }
    parts
}

/// The folder that the file is counted in: a crate, or the demo page.
fn part_of(path: &str) -> Option<String> {
    let mut folders = path.split('/');
    match folders.next()? {
        group @ ("crates" | "testing") => {
            let name = folders.next()?;
            folders.next().map(|_| format!("{group}/{name}"))
        }
        single @ ("bench" | "web" | "xtask") => Some(single.to_owned()),
        _ => None,
    }
}

fn description(manifest: &str) -> String {
    let line = manifest
        .lines()
        .find_map(|line| line.strip_prefix("description = \""));
    line.map_or_else(String::new, |line| {
        line.trim_end().trim_end_matches('"').to_owned()
    })
}

/// The code and the tests of a file.
fn split<'a>(path: &str, text: &'a str) -> (&'a str, &'a str) {
    let is_test = ["/tests/", "/e2e/", "/tests.rs"];
    if is_test.iter().any(|part| path.contains(part)) {
        return ("", text);
    }
    match text.rfind("\n#[cfg(test)]\nmod tests {") {
        Some(start) => text.split_at(start),
        None => (text, ""),
    }
}

fn count(text: &str) -> usize {
    let comments = ["//", "/*", "* ", "*/", "--", "<!--"];
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !comments.iter().any(|mark| line.starts_with(mark)))
        .count()
}

/// The table as it stands in the document, without its marks.
pub(crate) fn table_in(document: &str) -> Option<&str> {
    let (_, rest) = document.split_once(BEGIN)?;
    rest.split_once(END).map(|(table, _)| table)
}

/// The table as it should be.
pub(crate) fn table(parts: &BTreeMap<String, Part>) -> String {
    let mut table = "| part | what it is | code | tests |\n|---|---|---:|---:|\n".to_owned();
    let groups: [(&str, &[&str]); 2] = [
        ("product", &["crates/", "web"]),
        ("apparatus", &["bench", "testing/", "xtask"]),
    ];
    for (name, prefixes) in groups {
        let members = parts
            .iter()
            .filter(|(folder, _)| prefixes.iter().any(|prefix| folder.starts_with(prefix)));
        let (mut code, mut tests) = (0, 0);
        let mut rows = String::new();
        for (folder, part) in members {
            code += part.code;
            tests += part.tests;
            row(
                &mut rows,
                &format!("`{folder}`"),
                &part.about,
                part.code,
                part.tests,
            );
        }
        let about = match name {
            "product" => "what users and operators run",
            _ => "what tests and builds the product",
        };
        row(&mut table, &format!("**{name}**"), about, code, tests);
        table += &rows;
    }
    table
}

fn row(table: &mut String, part: &str, about: &str, code: usize, tests: usize) {
    let (code, tests) = (rounded(code), rounded(tests));
    writeln!(table, "| {part} | {about} | {code} | {tests} |")
        .expect("writing to a string cannot fail");
}

fn rounded(lines: usize) -> usize {
    (lines + ROUNDED_TO / 2) / ROUNDED_TO * ROUNDED_TO
}

/// The document with the table that the parts require; `None` if it has no place for one.
pub(crate) fn with_table(document: &str, parts: &BTreeMap<String, Part>) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some([before, BEGIN, &table(parts), END, after].concat())
}

/// The rows of the table that are missing, wrong by more than the tolerance, or about nothing.
pub(crate) fn stale_rows(present: &str, parts: &BTreeMap<String, Part>) -> Vec<String> {
    let expected = table(parts);
    let (present, expected) = (rows(present), rows(&expected));
    let is_near = |a: usize, b: usize| a.abs_diff(b) <= (b / 10).max(TOLERANCE_MIN);
    let names = present.keys().chain(expected.keys());
    let mut stale: Vec<String> = names
        .filter(|name| match (present.get(*name), expected.get(*name)) {
            (Some(present), Some(expected)) => {
                present.about != expected.about
                    || !is_near(present.code, expected.code)
                    || !is_near(present.tests, expected.tests)
            }
            _ => true,
        })
        .cloned()
        .collect();
    stale.sort_unstable();
    stale.dedup();
    stale
}

fn rows(table: &str) -> BTreeMap<String, Part> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, about, code, tests, _] = cells.as_slice() else {
            return None;
        };
        let part = Part {
            about: (*about).to_owned(),
            code: code.parse().ok()?,
            tests: tests.parse().ok()?,
        };
        Some(((*name).to_owned(), part))
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\nname = \"x\"\ndescription = \"An x.\"\n";

    fn of(files: &[(&str, &str)]) -> BTreeMap<String, Part> {
        parts(files.iter().copied())
    }

    #[test]
    fn code_and_tests_are_counted_apart_and_comments_and_blanks_not_at_all() {
        let code =
            "//! An x.\n\n/// Doc.\nfn f() {\n    g(); // why\n}\n\n#[cfg(test)]\nmod tests {\n}\n";
        let parts = of(&[
            ("crates/x/Cargo.toml", MANIFEST),
            ("crates/x/src/lib.rs", code),
            ("crates/x/src/a/tests.rs", "fn t() {}\n"),
            ("crates/x/tests/whole.rs", "// c\nfn t() {}\nfn u() {}\n"),
            ("docs/x.md", "x\n"),
        ]);
        let part = Part {
            about: "An x.".to_owned(),
            code: 3,
            tests: 6,
        };
        assert_eq!(parts, BTreeMap::from([("crates/x".to_owned(), part)]));
    }

    #[test]
    fn a_row_that_is_missing_stale_or_about_nothing_is_found() {
        let code = "x\n".repeat(2000);
        let files = [
            ("crates/x/Cargo.toml", MANIFEST),
            ("crates/x/src/lib.rs", &code),
        ];
        let parts = of(&files);
        let table = table(&parts);
        assert_eq!(stale_rows(&table, &parts), [""; 0]);
        let near = table.replace("2000", "1850");
        assert_eq!(stale_rows(&near, &parts), [""; 0]);
        let far = table.replace("2000", "1750");
        assert_eq!(stale_rows(&far, &parts), ["**product**", "`crates/x`"]);
        let renamed = table.replace("crates/x", "crates/y");
        assert_eq!(stale_rows(&renamed, &parts), ["`crates/x`", "`crates/y`"]);
        let other = table.replace("An x.", "A y.");
        assert_eq!(stale_rows(&other, &parts), ["`crates/x`"]);
    }
}
