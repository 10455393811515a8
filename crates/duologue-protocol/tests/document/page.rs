//! `docs/protocol.md` as chapters, sections, examples and rows of tables.

use std::fs;

use serde_json::Value;

/// The document as it is.
pub(crate) fn text() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/protocol.md");
    fs::read_to_string(path).unwrap()
}

/// What is between two headings.
pub(crate) struct Section {
    /// The heading of level two above it: `8. Errors`.
    pub(crate) chapter: String,
    /// The name in backticks in its own heading; empty for the text before the first such heading.
    pub(crate) subject: String,
    /// The lines outside of blocks.
    pub(crate) prose: Vec<String>,
    /// The JSON blocks.
    pub(crate) examples: Vec<Example>,
}

/// A JSON block.
pub(crate) struct Example {
    /// Its first line, counted from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Example {
    pub(crate) fn value(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("the example in line {}: {error}", self.line))
    }
}

impl Section {
    /// The names in the first cells of the rows of the tables whose first column is called `column`.
    pub(crate) fn rows(&self, column: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut is_open = false;
        for line in &self.prose {
            let cell = line.strip_prefix("| ").and_then(|row| row.split_once(" |"));
            match cell {
                _ if !line.starts_with('|') => is_open = false,
                Some((cell, _)) if cell == column => is_open = true,
                Some((cell, _)) if is_open => {
                    names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
                }
                _ => {}
            }
        }
        names
    }
}

/// All sections, in order.
pub(crate) fn sections(document: &str) -> Vec<Section> {
    let empty = |chapter: &str, subject: &str| Section {
        chapter: chapter.to_owned(),
        subject: subject.to_owned(),
        prose: Vec::new(),
        examples: Vec::new(),
    };
    let mut sections = vec![empty("", "")];
    let mut open: Option<(bool, Example)> = None;
    for (index, line) in document.lines().enumerate() {
        let last = sections.last_mut().unwrap();
        if line.starts_with("```") {
            match open.take() {
                Some((true, example)) => last.examples.push(example),
                Some(_) => {}
                None => {
                    let text = String::new();
                    let line_number = index + 2;
                    let example = Example {
                        line: line_number,
                        text,
                    };
                    open = Some((line == "```json", example));
                }
            }
        } else if let Some((_, example)) = &mut open {
            example.text += line;
            example.text += "\n";
        } else if let Some(chapter) = line.strip_prefix("## ") {
            sections.push(empty(chapter, ""));
        } else if let Some(subject) = line.strip_prefix("### ") {
            let chapter = last.chapter.clone();
            sections.push(empty(&chapter, subject.trim_matches('`')));
        } else {
            last.prose.push(line.to_owned());
        }
    }
    assert!(open.is_none(), "the last block is not closed");
    sections
}

/// The document without its lines from `first` on that are part of the same section.
pub(crate) fn without_section(document: &str, chapter: &str, subject: &str) -> String {
    let mut kept = String::new();
    let (mut in_chapter, mut is_cut) = (false, false);
    for line in document.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            in_chapter = heading == chapter;
            is_cut = false;
        } else if let Some(heading) = line.strip_prefix("### ") {
            is_cut = in_chapter && heading == format!("`{subject}`");
        }
        if !is_cut {
            kept += line;
            kept += "\n";
        }
    }
    kept
}

/// The document, each line of one section replaced by what `change` makes of it.
pub(crate) fn with_section_changed(
    document: &str,
    chapter: &str,
    subject: &str,
    change: impl Fn(&str) -> Option<String>,
) -> String {
    let mut changed = String::new();
    let (mut in_chapter, mut is_here) = (false, false);
    for line in document.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            in_chapter = heading == chapter;
            is_here = in_chapter && subject.is_empty();
        } else if let Some(heading) = line.strip_prefix("### ") {
            is_here = in_chapter && heading == format!("`{subject}`");
        }
        let line = if is_here {
            change(line)
        } else {
            Some(line.to_owned())
        };
        if let Some(line) = line {
            changed += &line;
            changed += "\n";
        }
    }
    changed
}
