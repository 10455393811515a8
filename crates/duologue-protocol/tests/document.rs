//! `docs/protocol.md` says what the code does: its examples are read and written by the code.
//!
//! That every frame and code has its place in the document is checked by `cargo xtask tidy`; here is
//! checked that what stands in these places is true.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test may fail it as the test itself may"
)]

use std::fs;

use duologue_protocol::{ClientFrame, ErrorCode, Received, ServerFrame};
use serde_json::Value;

/// A JSON block, and the headings that it stands under.
struct Example {
    section: String,
    subject: String,
    line: usize,
    text: String,
}

impl Example {
    fn value(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("the example in line {}: {error}", self.line))
    }
}

fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    fs::read_to_string(path).unwrap()
}

/// All JSON blocks of the document, in order.
fn examples() -> Vec<Example> {
    let (mut section, mut subject) = (String::new(), String::new());
    let mut open: Option<Example> = None;
    let mut examples = Vec::new();
    for (index, line) in document().lines().enumerate() {
        if line.starts_with("```") {
            if let Some(example) = open.take() {
                examples.push(example);
            } else if line == "```json" {
                open = Some(Example {
                    section: section.clone(),
                    subject: subject.clone(),
                    line: index + 2,
                    text: String::new(),
                });
            }
        } else if let Some(example) = &mut open {
            example.text += line;
            example.text += "\n";
        } else if let Some(heading) = line.strip_prefix("## ") {
            section = heading
                .trim_start_matches(|c: char| !c.is_alphabetic())
                .into();
            subject.clear();
        } else if let Some(heading) = line.strip_prefix("### ") {
            subject = heading.trim_matches('`').into();
        }
    }
    assert!(open.is_none(), "the last block is not closed");
    examples
}

fn examples_of(section: &str) -> Vec<Example> {
    let mut examples = examples();
    examples.retain(|example| example.section == section);
    assert!(
        !examples.is_empty(),
        "no example under {section:?}; was it renamed?"
    );
    examples
}

#[test]
fn every_json_block_is_json() {
    for example in examples() {
        assert!(example.value().is_object(), "line {}", example.line);
    }
}

/// Goal: no example has a field too many, too few, or under another name. Method: the code
/// reads the example and writes it again.
#[test]
fn the_code_writes_server_frames_as_the_document_shows_them() {
    for example in examples_of("Server frames") {
        let shown = example.value();
        let Received::Frame(frame) = ServerFrame::read(&example.text).unwrap() else {
            panic!("line {}: the code does not know this frame", example.line);
        };
        let written: Value = serde_json::from_str(&frame.to_json()).unwrap();
        assert_eq!(written, shown, "line {}", example.line);
        assert_eq!(shown["type"], example.subject, "line {}", example.line);
    }
}

#[test]
fn the_code_reads_client_frames_as_the_document_shows_them() {
    for example in examples_of("Client frames") {
        let read = ClientFrame::read(&example.text)
            .unwrap_or_else(|error| panic!("line {}: {error}", example.line));
        let name = match read {
            ClientFrame::Message(_) => "message",
            ClientFrame::Cancel => "cancel",
            ClientFrame::End => "end",
            ClientFrame::Auth { .. } => "auth",
            ClientFrame::Ping => "ping",
        };
        assert_eq!(name, example.subject, "line {}", example.line);
        // What the code does not know, it ignores; an example must not show such a field.
        for key in example.value().as_object().unwrap().keys() {
            let known = ["type", "message", "id", "on_busy", "token"].contains(&key.as_str());
            assert!(known, "line {}: `{key}`", example.line);
        }
    }
}

#[test]
fn the_table_of_errors_says_rightly_what_can_be_retried() {
    let document = document();
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
