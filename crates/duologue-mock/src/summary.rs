//! The mock's summary of a session.
//!
//! It reads a transcript of one entry per line: `user: …`, `assistant: …`, and
//! `tool NAME(ARGUMENTS): RESULT`. A line that begins otherwise goes on with the assistant's answer
//! before it.

use crate::quote::quoted;

/// How many of the user's messages, and of the tools' calls, are listed.
const LISTED_MAX: usize = 5;

enum Entry<'a> {
    User(&'a str),
    Assistant(Vec<&'a str>),
    Tool(&'a str),
}

/// Bullet points: what was discussed, which tools were used, what was left open, and what the user
/// wanted in the end.
pub(super) fn summary(transcript: &str) -> String {
    let entries = entries(transcript);
    let said: Vec<&str> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::User(text) => Some(*text),
            _ => None,
        })
        .collect();
    let calls: Vec<&str> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Tool(call) => Some(*call),
            _ => None,
        })
        .collect();
    let quote = |text: &&str| format!("\"{}\"", quoted(text));
    [
        format!("- Discussed: {}", list(&said, quote, "nothing")),
        format!(
            "- Tools used: {}",
            list(&calls, |call| quoted(call), "none")
        ),
        format!("- Open questions: {}", open_question(&entries)),
        format!(
            "- Final intent: {}",
            said.last().map_or("none".to_owned(), quote)
        ),
    ]
    .join("\n")
}

fn entries(transcript: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    for line in transcript.lines() {
        if let Some(text) = line.strip_prefix("user: ") {
            entries.push(Entry::User(text));
        } else if let Some(text) = line.strip_prefix("assistant: ") {
            entries.push(Entry::Assistant(vec![text]));
        } else if let Some(call) = line.strip_prefix("tool ") {
            // What it answered is in the assistant's words.
            let end = call.find("): ").map_or(call.len(), |end| end + 1);
            entries.push(Entry::Tool(&call[..end]));
        } else if let Some(Entry::Assistant(lines)) = entries.last_mut() {
            lines.push(line);
        }
    }
    entries
}

/// What the user was asked and did not answer, or asked and was not answered.
fn open_question(entries: &[Entry<'_>]) -> String {
    let is_spoken = |entry: &&Entry<'_>| !matches!(entry, Entry::Tool(_));
    match entries.iter().rfind(is_spoken) {
        Some(Entry::User(text)) => format!("\"{}\" was not answered", quoted(text)),
        Some(Entry::Assistant(lines)) => {
            let text = lines.join(" ");
            let is_question = text.trim_end().ends_with('?');
            if is_question {
                format!("the assistant asked \"{}\"", quoted(&text))
            } else {
                "none".to_owned()
            }
        }
        _ => "none".to_owned(),
    }
}

fn list<'a>(items: &[&'a str], show: impl Fn(&&'a str) -> String, none: &str) -> String {
    if items.is_empty() {
        return none.to_owned();
    }
    let shown: Vec<String> = items.iter().take(LISTED_MAX).map(show).collect();
    match items.len().saturating_sub(LISTED_MAX) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}
