//! Where a setting comes from.

use std::{fmt, path::PathBuf};

use toml::Value;

/// The source of a value that is not the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration file at this path.
    File(PathBuf),
    /// The variable of this name in `.env`.
    DotEnv(String),
    /// The environment variable of this name.
    Variable(String),
    /// The flag of this name.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::DotEnv(name) => write!(f, "{name} in .env"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A setting given on the command line.
#[derive(Clone, Debug, PartialEq)]
pub struct FlagValue {
    /// The flag as it is typed, for messages: `--port`.
    pub flag: &'static str,
    /// The key it sets: `server.port`.
    pub key: &'static str,
    /// The value, of the kind that the key has by default.
    pub value: Value,
}
