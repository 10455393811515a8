//! The table of settings in `docs/operations.md`, made from `config/default.toml` and its comments.
//!
//! Operators get a table, and there is still only one place where a setting is explained.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context;
use toml::{Table, Value};

use crate::outcome::Outcome;

/// Where the settings and their comments are.
pub(crate) const DEFAULTS: &str = "config/default.toml";
/// Where the table goes.
pub(crate) const DOCUMENT: &str = "docs/operations.md";
const BEGIN: &str = "<!-- settings: written by `cargo xtask settings` -->\n";
const END: &str = "<!-- end of settings -->";

/// One key of the defaults.
#[derive(Debug, PartialEq)]
pub(crate) struct Setting {
    /// The line that sets it, counted from 1.
    pub(crate) line: usize,
    /// With its sections: `session.resume_grace`.
    pub(crate) key: String,
    value: String,
    /// The comment above it. Settings that follow each other without a blank line share one.
    pub(crate) about: String,
}

/// The command: writes the table anew.
pub(crate) fn write(root: &Path) -> anyhow::Result<Outcome> {
    let read = |file| {
        fs::read_to_string(root.join(file)).with_context(|| format!("{file} cannot be read"))
    };
    let (defaults, document) = (read(DEFAULTS)?, read(DOCUMENT)?);
    let old = table_in(&document).with_context(|| {
        format!(
            "{DOCUMENT} needs the lines `{}` and `{END}`",
            BEGIN.trim_end()
        )
    })?;
    let new = document.replace(old, &table(&settings(&defaults)?));
    fs::write(root.join(DOCUMENT), new).with_context(|| format!("{DOCUMENT} cannot be written"))?;
    Ok(Outcome::Done)
}

/// The table as it stands in the document, without its marks.
pub(crate) fn table_in(document: &str) -> Option<&str> {
    let (_, rest) = document.split_once(BEGIN)?;
    rest.split_once(END).map(|(table, _)| table)
}

/// The table as it should be.
pub(crate) fn table(settings: &[Setting]) -> String {
    let mut table = "| setting | default | what it is |\n|---|---|---|\n".to_owned();
    for Setting {
        key, value, about, ..
    } in settings
    {
        let about = about.replace('|', "\\|");
        writeln!(table, "| `{key}` | `{value}` | {about} |").expect("a string takes all");
    }
    table
}

/// Reads the defaults: the values as TOML has them, in the order and with the comments of the text.
pub(crate) fn settings(text: &str) -> anyhow::Result<Vec<Setting>> {
    let table: Table = text
        .parse()
        .with_context(|| format!("{DEFAULTS} is not TOML"))?;
    let mut settings = Vec::new();
    let mut section = String::new();
    let mut about: Vec<&str> = Vec::new();
    let mut group_is_open = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            if std::mem::take(&mut group_is_open) {
                about.clear();
            }
            about.push(comment.trim());
        } else if line.is_empty() {
            about.clear();
        } else if let Some(header) = header(line) {
            section = format!("{header}.");
            about.clear();
        } else if let Some((name, _)) = line.split_once('=') {
            group_is_open = true;
            let key = format!("{section}{}", name.trim());
            // A `=` inside of a value that spans lines names no key of the table.
            if let Some(value) = lookup(&table, &key) {
                settings.push(Setting {
                    line: index + 1,
                    key,
                    value: value.to_string(),
                    about: about.join(" "),
                });
            }
        }
    }
    let (seen, expected) = (settings.len(), count(&table));
    anyhow::ensure!(
        seen == expected,
        "{DEFAULTS} has {expected} settings, of which {seen} could be found line by line; keep to \
         `[section]` headers and one `key = value` per line"
    );
    Ok(settings)
}

fn header(line: &str) -> Option<&str> {
    line.strip_prefix('[')?.strip_suffix(']')
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key).filter(|value| !value.is_table()),
        Some((section, rest)) => lookup(table.get(section)?.as_table()?, rest),
    }
}

fn count(table: &Table) -> usize {
    table
        .values()
        .map(|value| value.as_table().map_or(1, count))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# Not about a key.

[session]
# How long a session waits
# for its reader.
grace = \"30s\" # as text
lease = \"15s\"
# Readers.
readers = 10

[model.mock]
delays = [
    1,
    2,
]
";

    #[test]
    fn settings_keep_their_order_their_lines_and_the_comments_above_their_group() {
        let settings = settings(TEXT).unwrap();
        let found: Vec<_> = settings
            .iter()
            .map(|setting| (setting.line, setting.key.as_str(), setting.about.as_str()))
            .collect();
        let grace = "How long a session waits for its reader.";
        assert_eq!(
            found,
            [
                (6, "session.grace", grace),
                (7, "session.lease", grace),
                (9, "session.readers", "Readers."),
                (12, "model.mock.delays", ""),
            ]
        );
        assert_eq!(
            table(&settings).lines().nth(2),
            Some("| `session.grace` | `\"30s\"` | How long a session waits for its reader. |")
        );
    }

    #[test]
    fn a_setting_that_no_line_shows_is_an_error() {
        assert!(settings("session = { grace = 1 }").is_err());
        assert!(settings("a.b = 1").is_ok());
    }

    #[test]
    fn the_table_is_found_between_its_marks() {
        assert_eq!(
            table_in(&format!("# A\n{BEGIN}| x |\n{END}\n")),
            Some("| x |\n")
        );
        assert_eq!(table_in("# A\n"), None);
    }
}
