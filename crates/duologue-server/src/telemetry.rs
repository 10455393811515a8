//! The log: where it is written and in which format. `CONTRIBUTING.md` says what it may contain.

mod json;
mod line_buffer;
mod queue;

use std::io::{self, IsTerminal};

use tracing::{Dispatch, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

pub use crate::telemetry::queue::LogFlush;
use crate::{
    config::{LogConfig, LogFormat},
    telemetry::{json::JsonLines, line_buffer::LineBuffer},
};

/// Why logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed. [`crate::config::load`] refuses such a filter.
    #[error("the log's filter cannot be parsed")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The system has no thread for it.
    #[error("the thread that writes the log cannot be started")]
    Thread(#[source] io::Error),
    /// The process has a logger already.
    #[error("the log was started before")]
    Started(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging to stderr, for the whole process. To be called once.
///
/// What is logged is written by a thread, so that no caller waits for stderr. Drop the result at the
/// end of the process, and never before.
pub fn start(config: &LogConfig) -> Result<LogFlush, TelemetryError> {
    let filter = EnvFilter::try_new(&config.filter)?;
    let style = Style::new(config.format, io::stderr().is_terminal());
    let report = move |count| style.report_dropped(count);
    let (queue, flush) = queue::start(io::stderr(), report).map_err(TelemetryError::Thread)?;
    style.dispatch(filter, queue).try_init()?;
    Ok(flush)
}

/// What lines look like.
#[derive(Clone, Copy)]
struct Style {
    is_text: bool,
    is_terminal: bool,
}

impl Style {
    fn new(format: LogFormat, is_terminal: bool) -> Self {
        let is_text = match format {
            LogFormat::Text => true,
            LogFormat::Json => false,
            LogFormat::Auto => is_terminal,
        };
        Self {
            is_text,
            is_terminal,
        }
    }

    fn dispatch<W>(self, filter: EnvFilter, writer: W) -> Dispatch
    where
        W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
    {
        let builder = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(writer)
            // It would report them by `eprintln!`, which panics if stderr cannot be written to.
            .log_internal_errors(false);
        if self.is_text {
            // `builder` has no colours if `NO_COLOR` is set.
            let builder = if self.is_terminal {
                builder
            } else {
                builder.with_ansi(false)
            };
            builder.finish().into()
        } else {
            builder
                .with_ansi(false)
                .fmt_fields(JsonLines)
                .event_format(JsonLines)
                .finish()
                .into()
        }
    }

    /// The line that reports dropped lines. It looks like all others, and no filter hides it.
    fn report_dropped(self, count: u64) -> Vec<u8> {
        let line = LineBuffer::default();
        let filter = EnvFilter::default().add_directive(LevelFilter::WARN.into());
        let dispatch = self.dispatch(filter, line.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::warn!(log.lines_dropped = count, "{count} log lines were dropped");
        });
        line.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_lines_are_reported_in_the_format_of_the_log() {
        let json = Style::new(LogFormat::Json, false).report_dropped(7);
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["message"], "7 log lines were dropped");
        assert_eq!(
            (&json["log.lines_dropped"], &json["level"]),
            (&7.into(), &"WARN".into())
        );
        let text = Style::new(LogFormat::Text, false).report_dropped(1);
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(" WARN ") && text.ends_with('\n'), "{text}");
    }
}
