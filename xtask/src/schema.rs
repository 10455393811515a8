//! `schema.sql`, made from the Postgres migrations: for those who paste into an SQL editor.
//!
//! It applies each migration that is not applied yet and takes note of it, as `duologue migrate`
//! does; so either may follow the other. Each script is in it word by word, so that its checksum is
//! the one that `duologue migrate` expects.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context;

use crate::outcome::Outcome;

/// Where the migrations are, each a file `NNNN_description.sql`.
pub(crate) const MIGRATIONS: &str = "crates/duologue-store/migrations/postgres/";
/// What is made of them.
pub(crate) const SCHEMA: &str = "schema.sql";

/// Begins and ends each script.
const QUOTE: &str = "$migration$";
const BEGINNING: &str = include_str!("schema/beginning.sql");
const ENDING: &str = include_str!("schema/ending.sql");

/// The command: writes the file anew.
pub(crate) fn write(root: &Path) -> anyhow::Result<Outcome> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(MIGRATIONS)).context(MIGRATIONS)? {
        let entry = entry.context(MIGRATIONS)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let text = fs::read_to_string(entry.path()).with_context(|| name.clone())?;
        files.push((name, text));
    }
    let files = files.iter().map(|(name, text)| (&**name, &**text));
    let schema = schema(files.collect())?;
    fs::write(root.join(SCHEMA), schema).context(SCHEMA)?;
    Ok(Outcome::Done)
}

/// The file as it should be, from the names and texts of the migrations.
pub(crate) fn schema(mut migrations: Vec<(&str, &str)>) -> anyhow::Result<String> {
    migrations.sort_unstable();
    let mut schema = BEGINNING.to_owned();
    for (name, text) in migrations {
        let (version, description) = named(name)
            .with_context(|| format!("`{name}` is not named like `0001_description.sql`"))?;
        anyhow::ensure!(!text.contains(QUOTE), "`{name}` must not contain {QUOTE}");
        // The script reads line breaks of every kind as ours, since editors change them.
        anyhow::ensure!(
            !text.contains('\r'),
            "`{name}` must not contain carriage returns"
        );
        writeln!(
            schema,
            "\nselect pg_temp.duologue_apply({version}, '{description}', {QUOTE}{text}{QUOTE});"
        )
        .expect("a string takes all");
    }
    Ok(schema + ENDING)
}

fn named(file: &str) -> Option<(u32, &str)> {
    let (version, description) = file.strip_suffix(".sql")?.split_once('_')?;
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let description = description.chars().all(is_plain).then_some(description)?;
    Some((version.parse().ok()?, description))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksum is of the very text, so nothing may come between it and its quotes.
    #[test]
    fn migrations_are_applied_word_by_word_in_their_order() {
        let migrations = vec![
            ("0002_b.sql", "select 2;\n"),
            ("0001_a_b.sql", "select 1;\n"),
        ];
        let schema = schema(migrations).unwrap();
        let first = "(1, 'a_b', $migration$select 1;\n$migration$);\n";
        let second = "(2, 'b', $migration$select 2;\n$migration$);\n";
        let places = [first, second].map(|text| schema.find(text).expect(text));
        assert!(places[0] < places[1]);
    }

    #[test]
    fn what_cannot_be_quoted_or_named_is_refused() {
        for migration in [
            ("0001_a.sql", "select $migration$1$migration$;"),
            ("0001_a.sql", "select 1;\r\n"),
            ("0001_it's.sql", ""),
            ("readme.sql", ""),
        ] {
            assert!(schema(vec![migration]).is_err(), "{migration:?}");
        }
    }
}
