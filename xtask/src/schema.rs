//! `schema.sql`, made from the Postgres migrations: for those who paste into an SQL editor.
//!
//! It applies each migration that is not applied yet and records it, as `duologue migrate` does; so
//! either may follow the other. Each script is contained verbatim, so that its checksum is the one that
//! `duologue migrate` expects. Other tables are brought over by the scripts in folders, one before the
//! first migration and one after it.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context;

use crate::outcome::Outcome;

/// Where the migrations are, each a file `NNNN_description.sql`.
pub(crate) const MIGRATIONS: &str = "crates/duologue-store/migrations/postgres/";
/// What is made of them.
pub(crate) const SCHEMA: &str = "schema.sql";

/// Begins and ends each script.
const QUOTE: &str = "$migration$";
const HEADER: &str = include_str!("schema/header.sql");
const FOOTER: &str = include_str!("schema/footer.sql");

/// Finds out what is there.
const FIND: &str = "find.sql";
/// The folders of scripts that bring other tables over: `before.sql` and `after.sql` the first migration.
const UPGRADES: [&str; 2] = ["unreleased", "predecessors"];

/// The command: writes the file.
pub(crate) fn write(root: &Path) -> anyhow::Result<Outcome> {
    let mut files = Vec::new();
    read(&root.join(MIGRATIONS), "", &mut files).context(MIGRATIONS)?;
    let files = files.iter().map(|(name, text)| (&**name, &**text));
    let schema = schema(files.collect())?;
    fs::write(root.join(SCHEMA), schema).context(SCHEMA)?;
    Ok(Outcome::Done)
}

/// Reads all files of a folder, named by their paths in it.
fn read(folder: &Path, prefix: &str, files: &mut Vec<(String, String)>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &format!("{name}/"), files)?;
        } else {
            let text = fs::read_to_string(entry.path()).with_context(|| name.clone())?;
            files.push((name, text));
        }
    }
    Ok(())
}

/// The file as it should be, from the names and texts of the migrations.
pub(crate) fn schema(scripts: Vec<(&str, &str)>) -> anyhow::Result<String> {
    for (name, text) in &scripts {
        anyhow::ensure!(!text.contains(QUOTE), "`{name}` must not contain {QUOTE}");
        // The script drops carriage returns, since editors add them.
        anyhow::ensure!(
            !text.contains('\r'),
            "`{name}` must not contain carriage returns"
        );
    }
    let (mut migrations, others): (Vec<_>, Vec<_>) = scripts
        .into_iter()
        .partition(|(name, _)| *name != FIND && !name.contains('/'));
    migrations.sort_unstable();
    let mut schema = HEADER.to_owned();
    if let Some((_, find)) = others.iter().find(|(name, _)| *name == FIND) {
        write!(schema, "\n{find}").expect("a string takes all");
    }
    schema += &upgrades(&others, "before.sql");
    for (index, (name, text)) in migrations.into_iter().enumerate() {
        let (version, description) = named(name)
            .with_context(|| format!("`{name}` is not named like `0001_description.sql`"))?;
        writeln!(
            schema,
            "\nselect pg_temp.duologue_apply({version}, '{description}', {QUOTE}{text}{QUOTE});"
        )
        .expect("a string takes all");
        if index == 0 {
            schema += &upgrades(&others, "after.sql");
        }
    }
    Ok(schema + FOOTER)
}

/// The scripts that run `before.sql` or `after.sql` the first migration, each if its tables were found.
fn upgrades(scripts: &[(&str, &str)], which: &str) -> String {
    let mut calls = String::new();
    for found in UPGRADES {
        let file = format!("{found}/{which}");
        if let Some((_, text)) = scripts.iter().find(|(name, _)| *name == file) {
            writeln!(
                calls,
                "\nselect pg_temp.duologue_upgrade('{found}', {QUOTE}{text}{QUOTE});"
            )
            .expect("a string takes all");
        }
    }
    calls
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

    /// Tables are set aside or altered before the first migration, and their rows copied right after it.
    #[test]
    fn other_tables_are_brought_over_around_the_first_migration() {
        let scripts = vec![
            ("0002_b.sql", "select 2;\n"),
            ("unreleased/after.sql", "select 'after';\n"),
            ("find.sql", "select 'find';\n"),
            ("0001_a.sql", "select 1;\n"),
            ("unreleased/before.sql", "select 'before';\n"),
        ];
        let schema = schema(scripts).unwrap();
        let places = [
            "\nselect 'find';\n",
            "('unreleased', $migration$select 'before';\n$migration$);\n",
            "(1, 'a', ",
            "('unreleased', $migration$select 'after';\n$migration$);\n",
            "(2, 'b', ",
        ]
        .map(|text| schema.find(text).expect(text));
        assert!(places.is_sorted(), "{places:?}");
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
