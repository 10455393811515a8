//! Telemetry: where log entries go. What they may hold is in `CONTRIBUTING.md`.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

use crate::config::{LogConfig, LogFormat};

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read. [`crate::config::load`] refuses such a filter.
    #[error("the log's filter cannot be read")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("logging was started before")]
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
        // `builder` has switched colours off already where `NO_COLOR` asks for it.
        let builder = if is_terminal {
            builder
        } else {
            builder.with_ansi(false)
        };
        builder.finish().try_init()?;
    } else {
        builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .finish()
            .try_init()?;
    }
    Ok(())
}
