//! The settings: all layers of the configuration, merged key by key.
//!
//! [`Settings`] begins as `config/default.toml` and always has exactly its keys: a layer can change
//! a value, and can neither add a key nor change what kind of value a key holds.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde::Deserialize;
use toml::{Table, Value};

use crate::config::{
    environment::VariableLayer,
    keys::{find, find_mut, join, list, list_all},
    names::{self, FAMILIAR},
    redact,
    renamed::new_name,
    sections::Config,
    source::{FlagValue, Source},
    values::{self, expected_form, is_same_kind, kind},
};

const DEFAULTS: &str = include_str!("../../../../config/default.toml");

/// The effective settings, each with its source.
///
/// `Display` writes them as TOML, in the order of `config/default.toml` and without secrets; so
/// does `Debug`.
#[derive(Clone)]
pub struct Settings {
    defaults: Table,
    values: Table,
    sources: BTreeMap<String, Source>,
}

impl Settings {
    /// The defaults.
    pub(super) fn defaults() -> Self {
        let defaults: Table = DEFAULTS.parse().expect("the built-in defaults are TOML");
        Self {
            values: defaults.clone(),
            defaults,
            sources: BTreeMap::new(),
        }
    }

    /// Merges a file, and returns its problems.
    pub(super) fn merge_file(&mut self, path: &Path) -> Vec<String> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let path = path.display();
                return vec![format!(
                    "the configuration file {path} cannot be read: {error}"
                )];
            }
        };
        self.merge_text(&text, path)
    }

    /// Merges the text of the file at `path`, and returns its problems.
    pub(super) fn merge_text(&mut self, text: &str, path: &Path) -> Vec<String> {
        match text.parse::<Table>() {
            Ok(table) => {
                let mut problems = Vec::new();
                self.merge_table(&table, "", &Source::File(path.to_owned()), &mut problems);
                problems
            }
            // The parser's own message would quote the line, which may contain a secret.
            Err(error) => {
                let start = error.span().map_or(0, |span| span.start);
                let line = text[..start].matches('\n').count() + 1;
                let path = path.display();
                vec![format!("{path}, line {line}: {}", error.message())]
            }
        }
    }

    fn merge_table(
        &mut self,
        table: &Table,
        path: &str,
        source: &Source,
        problems: &mut Vec<String>,
    ) {
        for (name, value) in table {
            let key = join(path, name);
            match (find(&self.defaults, &key), value) {
                (Some(Value::Table(_)), Value::Table(inner)) => {
                    self.merge_table(inner, &key, source, problems);
                }
                _ => problems.extend(self.set(&key, value.clone(), source.clone())),
            }
        }
    }

    /// Merges the variables of one origin, and returns their problems.
    ///
    /// `DUOLOGUE_SECTION__KEY` is more specific than a familiar name, and overrides it.
    pub(super) fn merge_env(&mut self, layer: &VariableLayer<'_>) -> Vec<String> {
        let familiar = FAMILIAR.map(|(name, key)| (name, key.to_owned()));
        let ours = layer.variables.keys();
        let ours = ours.filter_map(|name| Some((name.as_str(), names::key_of(name)?)));

        let mut problems = Vec::new();
        for (name, key) in familiar.into_iter().chain(ours) {
            let Some((text, source)) = layer.get(name) else {
                continue;
            };
            let value = match find(&self.defaults, &key) {
                Some(default) => values::parse(text, default).unwrap_or_else(|| text.into()),
                None => text.into(),
            };
            problems.extend(self.set(&key, value, source));
        }
        problems
    }

    /// Merges a flag, and returns its problem.
    pub(super) fn merge_flag(&mut self, flag: FlagValue) -> Option<String> {
        self.set(flag.key, flag.value, Source::Flag(flag.flag))
    }

    fn set(&mut self, key: &str, value: Value, source: Source) -> Option<String> {
        let default = match find(&self.defaults, key) {
            Some(Value::Table(section)) => {
                let keys = list(section);
                return Some(format!(
                    "`{key}` (from {source}) is a section, not a value; its keys are {keys}"
                ));
            }
            Some(default) => default,
            None => return Some(self.unknown(key, &source)),
        };
        if !is_same_kind(default, &value) {
            let kind = kind(default);
            let given = cite(key, &value, Some(&source));
            return Some(format!("{given} must be {kind}"));
        }
        *find_mut(&mut self.values, key).expect("the values have the keys of the defaults") = value;
        self.sources.insert(key.to_owned(), source);
        None
    }

    /// The message for an unknown key, with its new name, the keys of its section, or the sections.
    fn unknown(&self, key: &str, source: &Source) -> String {
        if let Some(new) = new_name(key) {
            let advice = match source {
                Source::File(_) | Source::Flag(_) => format!("`{new}`"),
                Source::DotEnv(_) | Source::Variable(_) => names::variable_of(new),
            };
            return format!("`{key}` (from {source}) was renamed; use {advice} instead");
        }
        let mut section = key;
        while let Some((outer, _)) = section.rsplit_once('.') {
            section = outer;
            if let Some(Value::Table(table)) = find(&self.defaults, section) {
                let keys = list(table);
                return format!("unknown key `{key}` (from {source}); [{section}] has {keys}");
            }
        }
        let sections = list(&self.defaults);
        format!("unknown key `{key}` (from {source}); the sections are {sections}")
    }

    /// Reads the settings. The error has a message for each wrong value.
    pub(super) fn read(&self) -> Result<Config, Vec<String>> {
        // Each value is first read alone, with defaults for all others: the errors of a deserializer
        // do not always name the key.
        let wrong: Vec<String> = self
            .sources
            .keys()
            .filter_map(|key| {
                let mut alone = self.defaults.clone();
                *find_mut(&mut alone, key)? = find(&self.values, key)?.clone();
                let error = Config::deserialize(alone).err()?;
                let allowed = if let Some(form) = expected_form(self.default(key)) {
                    format!("must be {form}")
                } else {
                    let message = redact::redact_quotes(error.message(), key, self.value(key));
                    values::reason(&message)
                };
                Some(format!("{} {allowed}", self.cite(key)))
            })
            .collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Config::deserialize(self.values.clone()).map_err(|error| vec![error.message().to_owned()])
    }

    /// The value of a key.
    pub(super) fn value(&self, key: &str) -> &Value {
        find(&self.values, key).expect("all callers pass keys of the defaults")
    }

    /// The source of a key's value; `None` is the default.
    pub(crate) fn source(&self, key: &str) -> Option<&Source> {
        self.sources.get(key)
    }

    /// The keys whose values are not defaults.
    pub(super) fn changed(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The default of a key.
    pub(super) fn default(&self, key: &str) -> &Value {
        find(&self.defaults, key).expect("all callers pass keys of the defaults")
    }

    /// All keys, dotted.
    pub(super) fn keys(&self) -> Vec<String> {
        list_all(&self.defaults)
    }

    /// A key with its value and source, for messages. Contains no secret.
    pub(super) fn cite(&self, key: &str) -> String {
        cite(key, self.value(key), self.source(key))
    }

    /// Says that the value of `one` must be in `relation` to that of `other`.
    pub(super) fn must_be(&self, relation: &str, one: &str, other: &str) -> String {
        let (one, other) = (self.cite(one), self.cite(other));
        format!("{one} must be {relation} {other}")
    }

    fn write_section(&self, f: &mut fmt::Formatter<'_>, path: &str, table: &Table) -> fmt::Result {
        // In TOML the values of a section must precede its inner sections.
        for (name, value) in table {
            if !value.is_table() {
                let key = join(path, name);
                write!(f, "{name} = {}", redact::shown(&key, value))?;
                match self.source(&key) {
                    Some(source) => writeln!(f, "  # from {source}")?,
                    None => writeln!(f)?,
                }
            }
        }
        for (name, value) in table {
            if let Value::Table(inner) = value {
                let path = join(path, name);
                writeln!(f, "\n[{path}]")?;
                self.write_section(f, &path, inner)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# The effective settings. Values that are not defaults have their source."
        )?;
        self.write_section(f, "", &self.values)
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn cite(key: &str, value: &Value, source: Option<&Source>) -> String {
    let value = redact::shown(key, value);
    match source {
        Some(source) => format!("`{key}` = {value} (from {source})"),
        None => format!("`{key}` = {value} (the default)"),
    }
}
