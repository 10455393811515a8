//! Everything on the wire has its place in `docs/protocol.md`.
//!
//! A frame has a section with its name under its chapter, which begins with its kind and has
//! examples; a field has a row in the section and is in an example; a code has a row in its chapter's
//! table. The names come from the code. Each check is tested by planted deletions: every item's place
//! is deleted from the real document, and the check must report that item and nothing else.

use std::collections::BTreeMap;

use duologue_protocol::{
    ClientFrame, CloseCode, ErrorCode, FrameDescription, FrameKind, ServerFrame,
};
use serde_json::Value;

use crate::page::{Example, Section, sections, text, with_section_changed, without_section};

const CLIENT_FRAMES: &str = "4. Client frames";
const SERVER_FRAMES: &str = "5. Server frames";
const ERRORS: &str = "8. Errors";
const CLOSE_CODES: &str = "9. Close codes";
/// The fields of all events, which are explained before the first section.
const EVENT_FIELDS: &[&str] = &["type", "seq", "occurred_at", "turn_id"];

/// What must have a place in the document.
struct Frame {
    chapter: &'static str,
    name: &'static str,
    kinds: Vec<FrameKind>,
    /// Those of its own; events have others besides.
    fields: Vec<&'static str>,
}

impl Frame {
    fn is_event(&self) -> bool {
        self.kinds.contains(&FrameKind::Event)
    }
}

fn frames() -> Vec<Frame> {
    let mut frames: BTreeMap<_, Frame> = BTreeMap::new();
    let client = ClientFrame::descriptions()
        .iter()
        .map(|frame| (CLIENT_FRAMES, *frame));
    let server = ServerFrame::descriptions()
        .into_iter()
        .map(|frame| (SERVER_FRAMES, frame));
    for (chapter, FrameDescription { name, kind, fields }) in client.chain(server) {
        // `session_started` is an event and a notice, in one section.
        let frame = frames.entry((chapter, name)).or_insert_with(|| Frame {
            chapter,
            name,
            kinds: Vec::new(),
            fields: Vec::new(),
        });
        frame.kinds.push(kind);
        frame.fields.extend(fields);
    }
    for frame in frames.values_mut() {
        frame.fields.sort_unstable();
        frame.fields.dedup();
        let is_event = frame.is_event();
        frame
            .fields
            .retain(|field| !(is_event && EVENT_FIELDS.contains(field)));
    }
    frames.into_values().collect()
}

/// Everything that has no place, and every place of something that does not exist.
fn problems(document: &str) -> Vec<String> {
    let sections = sections(document);
    let mut problems = Vec::new();
    for frame in frames() {
        let places = sections
            .iter()
            .filter(|section| section.chapter == frame.chapter && section.subject == frame.name);
        match places.collect::<Vec<_>>().as_slice() {
            [section] => problems.extend(problems_of_frame(&frame, section)),
            [] => problems.push(format!("`{}` has no section", frame.name)),
            _ => problems.push(format!("`{}` has more than one section", frame.name)),
        }
    }
    let introduction = introduction(&sections, SERVER_FRAMES);
    problems.extend(compare(
        "an event",
        EVENT_FIELDS,
        &introduction.rows("field"),
    ));
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    problems.extend(compare(
        "the table of errors",
        &codes,
        &introduction_rows(&sections, ERRORS),
    ));
    let codes: Vec<_> = CloseCode::ALL
        .iter()
        .map(|code| code.number().to_string())
        .collect();
    let codes: Vec<_> = codes.iter().map(String::as_str).collect();
    let rows = introduction_rows(&sections, CLOSE_CODES);
    problems.extend(compare("the table of close codes", &codes, &rows));
    problems.extend(unknown_sections(&sections));
    problems
}

fn introduction<'a>(sections: &'a [Section], chapter: &str) -> &'a Section {
    let found = sections.iter().find(|section| section.chapter == chapter);
    found.unwrap_or_else(|| panic!("there is no chapter {chapter:?}"))
}

fn introduction_rows(sections: &[Section], chapter: &str) -> Vec<String> {
    introduction(sections, chapter).rows("code")
}

fn problems_of_frame(frame: &Frame, section: &Section) -> Vec<String> {
    let name = frame.name;
    let mut problems = compare(&format!("`{name}`"), &frame.fields, &section.rows("field"));
    let text = section.prose.join(" ").to_lowercase();
    let begins_with = |kind: &FrameKind| match kind {
        FrameKind::Event => text.trim_start().starts_with("event"),
        FrameKind::Delta => text.trim_start().starts_with("delta."),
        FrameKind::Notice => {
            let text = text.trim_start();
            text.starts_with("notice.") || text.starts_with("event or notice.")
        }
        FrameKind::Request => true,
    };
    if !frame.kinds.iter().all(begins_with) {
        problems.push(format!("`{name}` does not begin with its kind"));
    }
    if section.examples.is_empty() {
        problems.push(format!("`{name}` has no example"));
        return problems;
    }
    let examples: Vec<Value> = section.examples.iter().map(Example::value).collect();
    let is_shown = |field: &str| examples.iter().any(|example| example.get(field).is_some());
    for field in ["type"]
        .iter()
        .chain(&frame.fields)
        .filter(|field| !is_shown(field))
    {
        problems.push(format!("`{name}` has no example with `{field}`"));
    }
    for key in examples
        .iter()
        .flat_map(|example| example.as_object().unwrap().keys())
    {
        let is_common = key == "type" || frame.is_event() && EVENT_FIELDS.contains(&key.as_str());
        if !is_common && !frame.fields.contains(&key.as_str()) {
            problems.push(format!("`{name}` has no field `{key}`, but an example"));
        }
    }
    problems
}

/// The items without a row, and the rows without an item or more than one.
fn compare(of: &str, items: &[&str], rows: &[String]) -> Vec<String> {
    let missing = items
        .iter()
        .filter(|item| !rows.iter().any(|row| row == *item));
    let missing = missing.map(|item| format!("{of} has no row for `{item}`"));
    let unknown = rows.iter().filter(|row| !items.contains(&row.as_str()));
    let unknown = unknown.map(|row| format!("{of} has a row for `{row}`, which does not exist"));
    let twice = rows
        .iter()
        .enumerate()
        .filter(|(at, row)| rows[..*at].contains(row));
    let twice = twice.map(|(_, row)| format!("{of} has two rows for `{row}`"));
    missing.chain(unknown).chain(twice).collect()
}

fn unknown_sections(sections: &[Section]) -> Vec<String> {
    let frames = frames();
    let of_frames = sections.iter().filter(|section| {
        [CLIENT_FRAMES, SERVER_FRAMES].contains(&section.chapter.as_str())
            && !["", "Named outcomes"].contains(&section.subject.as_str())
    });
    let unknown = of_frames.filter(|section| {
        let mut frames = frames.iter();
        !frames.any(|frame| frame.chapter == section.chapter && frame.name == section.subject)
    });
    unknown
        .map(|section| format!("there is no frame `{}`", section.subject))
        .collect()
}

#[test]
fn everything_on_the_wire_has_its_place_in_the_document() {
    let problems = problems(&text());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_deleted_section_or_example_of_a_frame_is_reported() {
    let document = text();
    for Frame { chapter, name, .. } in frames() {
        let planted = without_section(&document, chapter, name);
        assert_eq!(problems(&planted), [format!("`{name}` has no section")]);
        let planted = with_section_changed(&document, chapter, name, |line| {
            Some(line.replace("```json", "```text"))
        });
        assert_eq!(problems(&planted), [format!("`{name}` has no example")]);
        let elsewhere = format!("### `{name}`");
        let planted = with_section_changed(&document, chapter, name, |line| {
            Some(if line == elsewhere {
                "### `elsewhere`".to_owned()
            } else {
                line.to_owned()
            })
        });
        let expected = [
            format!("`{name}` has no section"),
            "there is no frame `elsewhere`".into(),
        ];
        assert_eq!(problems(&planted), expected);
    }
}

#[test]
fn a_frame_that_does_not_begin_with_its_kind_is_reported() {
    let document = text();
    for Frame { chapter, name, .. } in frames()
        .iter()
        .filter(|frame| frame.chapter == SERVER_FRAMES)
    {
        let planted = with_section_changed(&document, chapter, name, |line| {
            let kinds = ["Event or notice. ", "Event", "Delta. ", "Notice. "];
            let rest = kinds.iter().find_map(|kind| line.strip_prefix(kind));
            Some(rest.unwrap_or(line).to_owned())
        });
        assert_eq!(
            problems(&planted),
            [format!("`{name}` does not begin with its kind")]
        );
    }
}

/// Removes `name` from the first cell of the rows of a section.
fn without_row(document: &str, chapter: &str, subject: &str, name: &str) -> String {
    with_section_changed(document, chapter, subject, |line| {
        let Some((cell, rest)) = line
            .strip_prefix("| ")
            .and_then(|row| row.split_once(" | "))
        else {
            return Some(line.to_owned());
        };
        let cell = cell.replace(&format!("`{name}`"), "");
        Some(format!("| {cell} | {rest}"))
    })
}

#[test]
fn a_deleted_row_or_example_of_a_field_is_reported() {
    let document = text();
    for Frame {
        chapter,
        name,
        fields,
        ..
    } in frames()
    {
        for field in ["type"].iter().chain(&fields) {
            let planted = with_section_changed(&document, chapter, name, |line| {
                let Ok(Value::Object(mut example)) = serde_json::from_str(line) else {
                    return Some(line.to_owned());
                };
                example.remove(*field);
                Some(Value::Object(example).to_string())
            });
            assert_eq!(
                problems(&planted),
                [format!("`{name}` has no example with `{field}`")]
            );
        }
        for field in &fields {
            let planted = without_row(&document, chapter, name, field);
            assert_eq!(
                problems(&planted),
                [format!("`{name}` has no row for `{field}`")]
            );
        }
    }
    for field in EVENT_FIELDS {
        let planted = without_row(&document, SERVER_FRAMES, "", field);
        assert_eq!(
            problems(&planted),
            [format!("an event has no row for `{field}`")]
        );
    }
}

#[test]
fn a_deleted_row_of_a_code_is_reported() {
    let document = text();
    for code in ErrorCode::ALL {
        let planted = without_row(&document, ERRORS, "", code.as_str());
        let expected = format!("the table of errors has no row for `{}`", code.as_str());
        assert_eq!(problems(&planted), [expected]);
    }
    for code in CloseCode::ALL {
        let planted = without_row(&document, CLOSE_CODES, "", &code.number().to_string());
        let expected = format!(
            "the table of close codes has no row for `{}`",
            code.number()
        );
        assert_eq!(problems(&planted), [expected]);
    }
}

#[test]
fn a_place_of_something_that_does_not_exist_is_reported() {
    let document = text();
    let planted = document.replace("\n### `pong`\n", "\n### `elsewhere`\n\n### `pong`\n");
    assert_eq!(problems(&planted), ["there is no frame `elsewhere`"]);
    let planted = document.replace("| `busy` | yes |", "| `lazy` | yes |");
    assert_eq!(
        problems(&planted),
        [
            "the table of errors has no row for `busy`",
            "the table of errors has a row for `lazy`, which does not exist"
        ]
    );
    let planted = document.replace("{\"type\": \"pong\"}", "{\"type\": \"pong\", \"at\": 1}");
    assert_eq!(
        problems(&planted),
        ["`pong` has no field `at`, but an example"]
    );
}
