//! The section `[log]`.

use serde::Deserialize;

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Directives as `tracing_subscriber::EnvFilter` reads them.
    pub filter: String,
    /// How entries are written.
    pub format: LogFormat,
}

/// How log entries are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}
