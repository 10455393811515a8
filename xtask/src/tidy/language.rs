//! Words that are not used in code or documents, with the words to use in their place.
//!
//! The project is written in the standard terms of its field. A word is listed here only if it has
//! no use that would be right. Phrases are also found where a line ends within them.

use super::tree::{Rule, Text, Tree, Violation};

/// A word or phrase in lower case, and what to write in its place.
struct Banned {
    phrase: &'static str,
    instead: &'static str,
}

const fn banned(phrase: &'static str, instead: &'static str) -> Banned {
    Banned { phrase, instead }
}

const BANNED: &[Banned] = &[
    banned("at its word", "\"without authentication\", \"unchecked\""),
    banned("bring a token", "\"send a token\""),
    banned("leave_after", "\"release delay\""),
    banned("log_name", "\"session id hash\""),
    banned("obeys", "\"handles\""),
    banned("purse", "\"budget\""),
    banned("turn_page", "\"roll over\""),
];

/// Kinds of files that people write.
const WRITTEN: &[&str] = &[
    "css", "example", "html", "js", "md", "mjs", "py", "rs", "service", "sql", "toml", "ts", "txt",
    "yaml", "yml",
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let written = tree.0.iter().filter(|text| is_written(text));
    written.flat_map(in_text).collect()
}

fn is_written(text: &Text) -> bool {
    let is_data = ["/corpus/", "/recordings/"];
    (text.is(WRITTEN) || text.path.ends_with("Dockerfile"))
        && !is_data.iter().any(|folder| text.path.contains(folder))
}

fn in_text(text: &Text) -> Vec<Violation> {
    let prose = Prose::of(text);
    let mut violations = Vec::new();
    for Banned { phrase, instead } in BANNED {
        for line in prose.lines_with(phrase) {
            let message = format!("\"{phrase}\" is not a word of this project; write {instead}");
            violations.push(Violation::new(Rule::Language, &text.path, line, message));
        }
    }
    violations
}

/// A text in lower case, without comment marks, its words separated by single blanks.
struct Prose {
    text: String,
    /// Where each line begins in the text.
    lines: Vec<(usize, usize)>,
}

impl Prose {
    fn of(text: &Text) -> Self {
        let (mut prose, mut lines) = (String::new(), Vec::new());
        for (number, line) in text.lines() {
            lines.push((prose.len(), number));
            let line = line.trim_start_matches(|letter: char| {
                letter.is_whitespace() || "/!#-*>|<".contains(letter)
            });
            for word in line.split_whitespace() {
                prose.push_str(&word.to_lowercase());
                prose.push(' ');
            }
        }
        Self { text: prose, lines }
    }

    /// The lines in which `phrase` begins, not as a part of longer words.
    fn lines_with(&self, phrase: &str) -> impl Iterator<Item = usize> {
        let is_letter = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
        self.text
            .match_indices(phrase)
            .filter(move |(start, _)| {
                let before = self.text[..*start].chars().next_back();
                let after = self.text[start + phrase.len()..].chars().next();
                !is_letter(before) && !is_letter(after)
            })
            .map(|(start, _)| {
                let after = self.lines.partition_point(|(begin, _)| *begin <= start);
                self.lines[after - 1].1
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<usize> {
        let tree = Tree::of([(path, text)]);
        check(&tree).into_iter().map(|found| found.line).collect()
    }

    #[test]
    fn a_banned_word_is_found_in_comments_strings_names_and_prose() {
        let text = "//! A purse.\nlet a = \"The Purse is empty\";\nfn open_purse() {}\n";
        assert_eq!(found("a.rs", text), [1, 2, 3]);
        assert_eq!(found("a.md", "fine\n\nA purse\n"), [3]);
        assert_eq!(found("Dockerfile", "# purse\n"), [1]);
    }

    #[test]
    fn a_phrase_is_found_across_the_end_of_a_line() {
        assert_eq!(found("a.rs", "fine\n/// bring a\n/// token\n"), [2]);
        assert_eq!(found("a.toml", "a = 1\n# bring\n# a   token\n"), [2]);
    }

    #[test]
    fn longer_words_and_data_are_fine() {
        assert_eq!(found("a.rs", "// a purser of pursers\n"), [0; 0]);
        for path in [
            "testing/fuzz/corpus/x/a.txt",
            "package-lock.json",
            "a/recordings/b.txt",
        ] {
            assert_eq!(found(path, "purse\n"), [0; 0], "{path}");
        }
    }

    /// A phrase that is not written as it is searched for would never be found.
    #[test]
    fn every_phrase_is_in_lower_case_with_single_blanks_and_can_be_found() {
        for Banned { phrase, .. } in BANNED {
            let text = format!("x {}\n", phrase.to_uppercase());
            assert!(!found("a.md", &text).is_empty(), "{phrase}");
        }
    }
}
