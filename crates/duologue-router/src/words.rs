//! The words of a message: which are candidates for a value, and which a label points at.

use regex::Regex;

/// A longer word is no value, unless a label points at it.
pub(crate) const WORD_BYTES_MAX: usize = 128;

/// How many words of a message are looked at for values that nothing points at. A message may have
/// tens of thousands, and each is checked against a schema.
const WORDS_SCANNED_MAX: usize = 1_000;

/// What surrounds a value in a sentence without belonging to it.
pub(crate) const AROUND: &[char] = &[
    '.', ',', ';', ':', '!', '?', '(', ')', '[', ']', '{', '}', '<', '>', '"', '\'', '`', '*',
    '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2026}',
];

/// What joins several values, or a value and its name, in one word.
const JOINTS: &[char] = &['=', ':', ',', ';', '/', '|', '(', ')', '[', ']', '{', '}'];

/// Finds a name of the parameter, a sign or "is", and a value.
pub(crate) fn label(name: &str, title: &str, aliases: &[String]) -> Result<Regex, regex::Error> {
    let title = variants(title).map_or(String::new(), |title| format!("|{title}"));
    let name = variants(name).unwrap_or_else(|| regex::escape(name));
    let mut names = format!("(?<name>{name}{title})");
    for alias in aliases.iter().filter_map(|alias| variants(alias)) {
        names.push('|');
        names.push_str(&alias);
    }
    Regex::new(&format!(
        r#"(?ix)
        \b(?:{names})
        (?: (?<sign> ["'`]? \s* [=:\#] \s* ) | \s+ (?:is|should\s+be) \s+ )
        (?: "(?<double>[^"]+)" | '(?<single>[^']+)' | (?<word>[^\s,;]+) )"#
    ))
}

/// The ways to write a name: its words may be joined by an underscore, a space, a hyphen or nothing.
/// `None` where it has no words, and would be found everywhere.
fn variants(name: &str) -> Option<String> {
    let words: Vec<String> = name
        .split(|c: char| c.is_whitespace() || c == '_' || c == '-')
        .filter(|word| !word.is_empty())
        .map(regex::escape)
        .collect();
    (!words.is_empty()).then(|| words.join(r"[\s_-]*"))
}

/// The words of a text without the punctuation around them; then, for words such as
/// `id=ORD-1001/ORD-1002`, their parts.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    let whole = text.split_whitespace();
    let parts = text
        .split_whitespace()
        .filter(|word| word.contains(JOINTS))
        .flat_map(|word| word.split(JOINTS));
    whole
        .chain(parts)
        .map(|word| word.trim_matches(AROUND))
        .filter(|word| (1..=WORD_BYTES_MAX).contains(&word.len()))
        .take(WORDS_SCANNED_MAX)
}

pub(crate) fn has_digit(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
}
