//! The JSON format of the log: one object per line, errors with all their causes.
//!
//! `tracing_subscriber` has a JSON format of its own, which writes the message of an error and drops
//! its causes. The lines here have the same form otherwise: `timestamp`, `level`, the fields of the
//! event, `target`, and `spans` from the outermost to the innermost.

use std::{collections::BTreeMap, error::Error, fmt};

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    registry::{LookupSpan, Scope, SpanRef},
};

use crate::error_chain::error_chain;

/// Formats events, and the fields of spans, as JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonLines;

/// The fields of an event or a span, in the order in which they were recorded.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record(field, format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record(field, error_chain(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.record(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.record(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.record(field, value);
    }
}

impl Fields {
    fn record(&mut self, field: &Field, value: impl Into<Value>) {
        // A field whose name is a keyword is written `r#type`.
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.0.push((name, value.into()));
    }
}

/// A line of the log.
struct Line<'a, S: for<'span> LookupSpan<'span>> {
    timestamp: &'a str,
    event: &'a Event<'a>,
    spans: Vec<SpanRef<'a, S>>,
}

impl<S: for<'span> LookupSpan<'span>> Serialize for Line<'_, S> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let metadata = self.event.metadata();
        let mut fields = Fields::default();
        self.event.record(&mut fields);
        let mut line = serializer.serialize_map(None)?;
        line.serialize_entry("timestamp", self.timestamp)?;
        line.serialize_entry("level", metadata.level().as_str())?;
        for (name, value) in &fields.0 {
            line.serialize_entry(name, value)?;
        }
        line.serialize_entry("target", metadata.target())?;
        if !self.spans.is_empty() {
            let spans: Vec<Value> = self.spans.iter().map(span).collect();
            line.serialize_entry("spans", &spans)?;
        }
        line.end()
    }
}

/// The fields of a span, and its name.
fn span<S: for<'span> LookupSpan<'span>>(span: &SpanRef<'_, S>) -> Value {
    let extensions = span.extensions();
    let fields = extensions.get::<FormattedFields<JsonLines>>();
    let mut fields = fields.map_or_else(BTreeMap::new, |fields| read(&fields.fields));
    fields.insert("name".to_owned(), span.name().into());
    fields.into_iter().collect()
}

impl<S> FormatEvent<S, JsonLines> for JsonLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonLines>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let scope = context.event_scope().into_iter();
        let line = Line {
            timestamp: &timestamp,
            event,
            spans: scope.flat_map(Scope::from_root).collect(),
        };
        let line = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// The fields of a span are stored as text, which is one JSON object.
impl<'writer> FormatFields<'writer> for JsonLines {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut recorded = Fields::default();
        fields.record(&mut recorded);
        let recorded: BTreeMap<_, _> = recorded.0.into_iter().collect();
        let text = serde_json::to_string(&recorded).map_err(|_| fmt::Error)?;
        writer.write_str(&text)
    }

    fn add_fields(
        &self,
        current: &'writer mut FormattedFields<Self>,
        fields: &Record<'_>,
    ) -> fmt::Result {
        let mut recorded = Fields::default();
        fields.record(&mut recorded);
        let mut all = read(&current.fields);
        let recorded = recorded.0.into_iter();
        all.extend(recorded.map(|(name, value)| (name.to_owned(), value)));
        current.fields = serde_json::to_string(&all).map_err(|_| fmt::Error)?;
        Ok(())
    }
}

/// Reads what [`JsonLines`] has written for a span; empty for a span without fields.
fn read(text: &str) -> BTreeMap<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::telemetry::line_buffer::LineBuffer;

    #[derive(Debug, thiserror::Error)]
    #[error("the store cannot be opened")]
    struct Outer(#[source] io::Error);

    fn logged(act: impl FnOnce()) -> Value {
        let log = LineBuffer::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .fmt_fields(JsonLines)
            .event_format(JsonLines)
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let text = String::from_utf8(log.take()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_error_is_logged_with_all_its_causes() {
        let error = Outer(io::Error::other("disk full"));
        let line = logged(|| {
            tracing::error!(error = &error as &dyn Error, attempt = 2, "store.failed");
        });
        assert_eq!(line["error"], "the store cannot be opened: disk full");
        assert_eq!(line["attempt"], 2);
        assert_eq!(line["message"], "store.failed");
        assert_eq!(line["level"], "ERROR");
        assert!(line["timestamp"].is_string() && line["target"].is_string());
        assert!(line.get("spans").is_none());
    }

    #[test]
    fn spans_have_their_fields_also_those_that_are_recorded_later() {
        let line = logged(|| {
            let request = tracing::info_span!(
                "request",
                request.id = "r1",
                session.id = tracing::field::Empty
            );
            let _request = request.enter();
            request.record("session.id", "s1");
            let _socket = tracing::info_span!("socket").entered();
            tracing::info!(r#type = "x", "socket.closed");
        });
        let spans = serde_json::json!([
            {"name": "request", "request.id": "r1", "session.id": "s1"},
            {"name": "socket"},
        ]);
        assert_eq!(line["spans"], spans);
        assert_eq!(line["type"], "x");
    }
}
