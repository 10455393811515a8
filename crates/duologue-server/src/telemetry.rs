//! The log: where it is written and in which format. `CONTRIBUTING.md` says what it may contain.

mod json;

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

use crate::{
    config::{LogConfig, LogFormat},
    telemetry::json::JsonLines,
};

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed. [`crate::config::load`] refuses such a filter.
    #[error("the log's filter cannot be parsed")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a logger already.
    #[error("the log was started before")]
    Started(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging to stderr, for the whole process. To be called once.
pub fn start(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    let is_terminal = io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let is_text = match config.format {
        LogFormat::Text => true,
        LogFormat::Json => false,
        LogFormat::Auto => is_terminal,
    };
    if is_text {
        // `builder` has no colours if `NO_COLOR` is set.
        let builder = if is_terminal {
            builder
        } else {
            builder.with_ansi(false)
        };
        builder.finish().try_init()?;
    } else {
        builder
            .with_ansi(false)
            .fmt_fields(JsonLines)
            .event_format(JsonLines)
            .finish()
            .try_init()?;
    }
    Ok(())
}
