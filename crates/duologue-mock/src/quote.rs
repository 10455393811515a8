//! Quotations of what a user wrote.

/// How much of the user's message is repeated, in characters.
const QUOTED_CHARS_MAX: usize = 80;

/// A text on one line, cut to what fits a sentence.
pub(super) fn quoted(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    match line.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{}\u{2026}", line[..end].trim_end()),
        None => line,
    }
}
