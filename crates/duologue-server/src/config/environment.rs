//! The environment, read once: the process's variables and `.env`.

use std::{collections::BTreeMap, ffi::OsString, fmt, fs, io, path::Path};

use crate::config::{error::ConfigError, names, source::Source};

/// The file of variables, which is read from the working directory only.
const DOT_ENV: &str = ".env";

/// Variables by name. All code that needs one receives this; nothing else reads the process's.
///
/// An empty value counts as unset. Values may be secrets, so `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Environment {
    process: BTreeMap<String, String>,
    dot_env: BTreeMap<String, String>,
}

/// The variables of one origin.
pub(super) struct VariableLayer<'a> {
    pub(super) variables: &'a BTreeMap<String, String>,
    source: fn(String) -> Source,
}

impl VariableLayer<'_> {
    /// The value of a variable and where it was found.
    pub(super) fn get(&self, name: &str) -> Option<(&str, Source)> {
        let value = self.variables.get(name)?;
        Some((value, (self.source)(name.to_owned())))
    }
}

impl Environment {
    /// Takes the process's variables, as [`std::env::vars_os`] lists them, and reads `.env` in
    /// `working_directory` if it is there.
    pub fn read(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        working_directory: &Path,
    ) -> Result<Self, ConfigError> {
        let mut process = BTreeMap::new();
        for (name, value) in variables {
            // The names that the server reads are ASCII.
            let Ok(name) = name.into_string() else {
                continue;
            };
            match value.into_string() {
                Ok(value) => {
                    process.insert(name, value);
                }
                Err(_) if names::is_ours(&name) => {
                    return Err(ConfigError::one(format!("{name} is not UTF-8")));
                }
                Err(_) => {}
            }
        }
        let dot_env = match fs::read_to_string(working_directory.join(DOT_ENV)) {
            Ok(text) => parse_dot_env(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                return Err(ConfigError::one(format!(
                    "{DOT_ENV} cannot be read: {error}"
                )));
            }
        };
        Ok(Self::new(process, dot_env))
    }

    /// An environment made of the given variables, for tests and embedding.
    pub fn new<K, V>(
        process: impl IntoIterator<Item = (K, V)>,
        dot_env: impl IntoIterator<Item = (K, V)>,
    ) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        Self {
            process: without_empty(process),
            dot_env: without_empty(dot_env),
        }
    }

    /// Whether a variable is set, and not empty.
    pub fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The token of `duologue chat`. It is not a setting of the server.
    pub fn chat_token(&self) -> Option<&str> {
        self.get("DUOLOGUE_TOKEN")
    }

    /// The value of a variable; the process's own overrides `.env`.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.process.get(name).or_else(|| self.dot_env.get(name));
        value.map(String::as_str)
    }

    /// The origins; each overrides the one before.
    pub(super) fn layers(&self) -> [VariableLayer<'_>; 2] {
        [
            VariableLayer {
                variables: &self.dot_env,
                source: Source::DotEnv,
            },
            VariableLayer {
                variables: &self.process,
                source: Source::Variable,
            },
        ]
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("process", &self.process.keys())
            .field("dot_env", &self.dot_env.keys())
            .finish()
    }
}

fn without_empty<K: Into<String>, V: Into<String>>(
    variables: impl IntoIterator<Item = (K, V)>,
) -> BTreeMap<String, String> {
    variables
        .into_iter()
        .map(|(name, value)| (name.into(), value.into()))
        .filter(|(_, value)| !value.trim().is_empty())
        .collect()
}

fn parse_dot_env(text: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = text.trim_start_matches('\u{feff}');
    let mut variables = BTreeMap::new();
    for variable in dotenvy::from_read_iter(text.as_bytes()) {
        match variable {
            // As usual for such files, the first of two lines counts.
            Ok((name, value)) => {
                variables.entry(name).or_insert(value);
            }
            Err(error) => {
                return Err(ConfigError::one(format!(
                    "{DOT_ENV} cannot be read{}: write NAME=value, and put a value with spaces, \
                     `#` or `$` in single quotes",
                    position(text, &error),
                )));
            }
        }
    }
    Ok(variables)
}

/// The position of a line. Its text is left out, since it may contain a secret.
fn position(text: &str, error: &dotenvy::Error) -> String {
    match error {
        dotenvy::Error::LineParse(line, _) => text
            .find(line.as_str())
            .map(|start| text[..start].matches('\n').count() + 1)
            .map(|number| format!(" at line {number}"))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_of_the_process_overrides_one_in_dot_env() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(
            directory.path().join(".env"),
            "# a comment\nPORT=1\nexport HOST='with # and $'\nEMPTY=\n",
        )
        .unwrap();
        let process = [("PORT".into(), "2".into()), ("EMPTY".into(), "".into())];
        let environment = Environment::read(process, directory.path()).unwrap();
        assert_eq!(environment.get("PORT"), Some("2"));
        assert_eq!(environment.get("HOST"), Some("with # and $"));
        assert_eq!(environment.get("EMPTY"), None);
    }

    #[test]
    fn no_dot_env_is_fine() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Environment::read([], directory.path()).is_ok());
    }

    #[test]
    fn a_bad_line_of_dot_env_is_named_by_number_and_not_shown() {
        let error = parse_dot_env("PORT=1\n\nOPENAI_API_KEY='sk-canary\n").unwrap_err();
        let text = error.to_string();
        assert!(text.contains(".env cannot be read at line 3"), "{text}");
        assert!(!text.contains("canary"), "{text}");
    }

    #[test]
    fn showing_an_environment_for_debugging_shows_no_value() {
        let environment = Environment::new([("OPENAI_API_KEY", "canary")], []);
        let text = format!("{environment:?}");
        assert!(
            text.contains("OPENAI_API_KEY") && !text.contains("canary"),
            "{text}"
        );
    }
}
