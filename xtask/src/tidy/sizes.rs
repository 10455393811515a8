//! The table of sizes in `ARCHITECTURE.md` is near the truth.

use std::{fs, path::Path};

use anyhow::Context;

use super::tree::{Rule, Tree, Violation};
use crate::lines::{self, DOCUMENT};

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let violation = |message: String| Violation::new(Rule::Sizes, DOCUMENT, 1, message);
    let files = tree.0.iter().map(|text| (&*text.path, &*text.text));
    let parts = lines::parts(files);
    let document = tree.get(DOCUMENT).map_or("", |text| &text.text);
    if parts.is_empty() {
        return Vec::new();
    }
    let Some(table) = lines::table_in(document) else {
        return vec![violation("has no table of sizes".to_owned())];
    };
    let stale = lines::stale_rows(table, &parts);
    let message = |row: String| format!("the row of {row} is stale; run `cargo xtask lines`");
    stale.into_iter().map(message).map(violation).collect()
}

/// Writes the table into the document.
pub(super) fn write(root: &Path, tree: &Tree) -> anyhow::Result<()> {
    let files = tree.0.iter().map(|text| (&*text.path, &*text.text));
    let document = tree.get(DOCUMENT).map_or("", |text| &text.text);
    let new = lines::with_table(document, &lines::parts(files))
        .with_context(|| format!("{DOCUMENT} has no place for the table of sizes"))?;
    fs::write(root.join(DOCUMENT), new).with_context(|| format!("{DOCUMENT} cannot be written"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_missing_or_stale_is_found() {
        let code = ("xtask/src/main.rs", "fn main() {}\n");
        assert_eq!(check(&Tree::of([code])).len(), 1);
        let files = [code].into_iter();
        let marks = "<!-- lines: written by `cargo xtask lines` -->\n<!-- end of lines -->\n";
        let right = lines::with_table(marks, &lines::parts(files)).unwrap();
        assert_eq!(check(&Tree::of([code, (DOCUMENT, &right)])), []);
        let stale = right.replace("`xtask`", "`ytask`");
        assert_eq!(check(&Tree::of([code, (DOCUMENT, &stale)])).len(), 2);
    }
}
