//! `docs/protocol.md` says what the code does: its examples are read and written by the code.
//!
//! That everything on the wire has its place in the document is checked in `places`; here is checked
//! that what the examples say is true.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test may fail it as the test itself may"
)]

mod page;
mod places;

use duologue_protocol::{ClientFrame, ErrorCode, Received, ServerFrame};
use serde_json::Value;

use self::page::{Section, sections, text};

fn sections_of(chapter: &str) -> Vec<Section> {
    let mut sections = sections(&text());
    sections.retain(|section| section.chapter == chapter);
    assert!(
        !sections.is_empty(),
        "no chapter {chapter:?}; was it renamed?"
    );
    sections
}

#[test]
fn every_json_block_is_json() {
    for example in sections(&text())
        .iter()
        .flat_map(|section| &section.examples)
    {
        assert!(example.value().is_object(), "line {}", example.line);
    }
}

/// Goal: no example has a field too many, too few, or under another name. Method: the code
/// reads the example and writes it again.
#[test]
fn the_code_writes_server_frames_as_the_document_shows_them() {
    for (section, example) in sections_of("5. Server frames").iter().flat_map(|section| {
        section
            .examples
            .iter()
            .map(move |example| (section, example))
    }) {
        let shown = example.value();
        let Received::Frame(frame) = ServerFrame::read(&example.text).unwrap() else {
            panic!("line {}: the code does not know this frame", example.line);
        };
        let written: Value = serde_json::from_str(&frame.to_json()).unwrap();
        assert_eq!(written, shown, "line {}", example.line);
        assert_eq!(shown["type"], section.subject, "line {}", example.line);
    }
}

#[test]
fn the_code_reads_client_frames_as_the_document_shows_them() {
    for (section, example) in sections_of("4. Client frames").iter().flat_map(|section| {
        section
            .examples
            .iter()
            .map(move |example| (section, example))
    }) {
        let read = ClientFrame::read(&example.text)
            .unwrap_or_else(|error| panic!("line {}: {error}", example.line));
        assert_eq!(read.name(), section.subject, "line {}", example.line);
    }
}

#[test]
fn the_table_of_errors_says_rightly_what_can_be_retried() {
    let document = text();
    let (_, section) = document.split_once("## 8. Errors").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| {
        let (code, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        rest.split_once(" | ")
            .map(|(retryable, _)| (code, retryable))
    });
    let rows: Vec<_> = rows.collect();
    assert!(!rows.is_empty());
    for (code, retryable) in rows {
        let code: ErrorCode = serde_json::from_value(code.into()).unwrap();
        let expected = if code.retryable() { "yes" } else { "no" };
        assert_eq!(retryable, expected, "{code:?}");
    }
}
