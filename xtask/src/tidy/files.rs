//! How files begin, how long they are, what they are called, and words that must not be in them.

use std::path::Path;

use super::tree::{Rule, Text, Tree, Violation};

const LINES_MAX: usize = 500;

/// Every Rust file says what it is before anything else.
pub(super) fn headers(tree: &Tree) -> Vec<Violation> {
    let rust = tree.0.iter().filter(|text| text.is(&["rs"]));
    let bare = rust.filter(|text| !text.text.starts_with("//!"));
    bare.map(|text| {
        let message = "begin the file with `//!` and a sentence on what it is";
        Violation::new(Rule::Headers, &text.path, 1, message)
    })
    .collect()
}

/// A file that has grown too long holds a second idea. Tests at its end do not count.
pub(super) fn lengths(tree: &Tree) -> Vec<Violation> {
    let of_ours = |text: &&Text| {
        let page = text.path.starts_with("web/") && text.is(&["js", "mjs", "ts", "css", "html"]);
        page || text.is(&["rs"])
    };
    let mut violations = Vec::new();
    for text in tree.0.iter().filter(of_ours) {
        let lines = lines_without_tests(&text.text);
        if lines > LINES_MAX {
            let message = format!(
                "{lines} lines without the tests, {LINES_MAX} are allowed; find the second idea \
                 and give it a file"
            );
            violations.push(Violation::new(
                Rule::Lengths,
                &text.path,
                LINES_MAX + 1,
                message,
            ));
        }
    }
    violations
}

fn lines_without_tests(text: &str) -> usize {
    let code = text
        .rsplit_once("\n#[cfg(test)]\nmod tests {")
        .map_or(text, |(code, _)| code);
    code.lines().count()
}

/// Names that say nothing, and so attract everything.
const EMPTY_NAMES: &[&str] = &[
    "core",
    "common",
    "util",
    "utils",
    "helper",
    "helpers",
    "manager",
    "service",
    "processor",
    "data",
    "info",
];

/// Modules and crates are called by what they hold.
pub(super) fn names(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for text in &tree.0 {
        if text.is(&["rs"]) {
            if text.path.ends_with("/mod.rs") {
                let message = "name it for its folder, one level up: `turn.rs` beside `turn/`";
                violations.push(Violation::new(Rule::Names, &text.path, 1, message));
            }
            violations.extend(empty_names(text));
        }
        if text.path.ends_with("Cargo.toml") {
            let folder = Path::new(&text.path).parent().and_then(Path::file_name);
            let name = folder.map(|name| name.to_string_lossy().into_owned());
            violations.extend(name.and_then(|name| empty_name(text, 1, &name)));
        }
    }
    violations
}

fn empty_names(text: &Text) -> Vec<Violation> {
    let stem = Path::new(&text.path)
        .file_stem()
        .map(|stem| stem.to_string_lossy());
    let inline = text.lines().filter_map(|(line, code)| {
        let code = code.trim_start();
        let after = |prefix: &str| code.strip_prefix(prefix);
        let name = after("mod ")
            .or_else(|| after("pub mod "))
            .or_else(|| after("pub(crate) mod "))?;
        // Modules with a file of their own are judged there.
        name.trim_end()
            .strip_suffix(" {")
            .and_then(|name| empty_name(text, line, name))
    });
    stem.and_then(|stem| empty_name(text, 1, &stem))
        .into_iter()
        .chain(inline)
        .collect()
}

fn empty_name(text: &Text, line: usize, name: &str) -> Option<Violation> {
    let word = name
        .split(['_', '-'])
        .find(|word| EMPTY_NAMES.contains(word))?;
    let message = format!("`{name}`: \"{word}\" says nothing; name it for what it holds");
    Some(Violation::new(Rule::Names, &text.path, line, message))
}

/// A word that has no place in some files.
struct Word {
    text: &'static str,
    /// Empty means all files.
    extensions: &'static [&'static str],
    instead: &'static str,
}

const WORDS: &[Word] = &[
    Word {
        text: "TODO",
        extensions: &[],
        instead: "do it, or write down elsewhere that it is to be done",
    },
    Word {
        text: "FIXME",
        extensions: &[],
        instead: "mend it, or write down elsewhere that it is broken",
    },
    Word {
        text: "#[ignore",
        extensions: &["rs"],
        instead: "a test that does not run tests nothing; mend or remove it",
    },
    Word {
        text: "#[should_panic",
        extensions: &["rs"],
        instead: "assert on a returned error, which says what went wrong and where",
    },
    Word {
        text: "test.only(",
        extensions: &["js", "mjs", "ts"],
        instead: "run all tests",
    },
    Word {
        text: "test.skip(",
        extensions: &["js", "mjs", "ts"],
        instead: "a test that does not run tests nothing; mend or remove it",
    },
];

/// Marks of unfinished work.
pub(super) fn words(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for text in &tree.0 {
        for Word {
            text: word,
            extensions,
            instead,
        } in WORDS
        {
            if !extensions.is_empty() && !text.is(extensions) {
                continue;
            }
            for (line, _) in text.lines().filter(|(_, content)| has_word(content, word)) {
                let message = format!("`{word}`: {instead}");
                violations.push(Violation::new(Rule::Words, &text.path, line, message));
            }
        }
    }
    violations
}

/// Whether `word` stands in `line`, and not as part of a longer word.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        // A word that ends with a bracket ends there, whatever follows.
        let ends = !is_letter(word.chars().next_back()) || !is_letter(after);
        !is_letter(before) && ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(violations: &[Violation]) -> Vec<(&str, usize)> {
        violations
            .iter()
            .map(|found| (found.path.as_str(), found.line))
            .collect()
    }

    #[test]
    fn a_rust_file_without_a_header_is_found() {
        let tree = Tree::of([
            ("a.rs", "//! A.\n"),
            ("b.rs", "use std::fs;\n//! Late.\n"),
            ("c.rs", ""),
            ("d.js", "x"),
        ]);
        assert_eq!(places(&headers(&tree)), [("b.rs", 1), ("c.rs", 1)]);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_are_not_counted() {
        let code = "//! A.\n".to_owned() + &"x\n".repeat(LINES_MAX - 1);
        let tests = "\n#[cfg(test)]\nmod tests {\n".to_owned() + &"y\n".repeat(200) + "}\n";
        let tree = Tree::of([
            ("just.rs", &(code.clone() + &tests)),
            ("long.rs", &(code.clone() + "x\n" + &tests)),
            ("web/long.js", &(code.clone() + "x\n")),
            ("web/lock.json", &(code.clone() + "x\n")),
            ("elsewhere/long.js", &(code + "x\n")),
        ]);
        assert_eq!(
            places(&lengths(&tree)),
            [("long.rs", 501), ("web/long.js", 501)]
        );
    }

    #[test]
    fn names_that_say_nothing_are_found() {
        let tree = Tree::of([
            ("a/src/turn/mod.rs", "//! A.\n"),
            ("a/src/utils.rs", "//! A.\n"),
            ("a/src/session_manager.rs", "//! A.\n"),
            (
                "a/src/turn.rs",
                "//! A.\nmod data {\n}\nmod helper;\npub mod informed {\n}\n",
            ),
            ("crates/duologue-core/Cargo.toml", ""),
            ("crates/duologue-store/Cargo.toml", ""),
        ]);
        assert_eq!(
            places(&names(&tree)),
            [
                ("a/src/turn/mod.rs", 1),
                ("a/src/utils.rs", 1),
                ("a/src/session_manager.rs", 1),
                ("a/src/turn.rs", 2),
                ("crates/duologue-core/Cargo.toml", 1),
            ]
        );
    }

    #[test]
    fn marks_of_unfinished_work_are_found_as_words() {
        let tree = Tree::of([
            ("a.md", "fine\nTODO: more\nTODOS and todo are fine\n"),
            (
                "a.rs",
                "//! A.\n#[ignore]\n#[ignore = \"slow\"]\n// FIXME\n",
            ),
            ("a.ts", "test.only('x')\ntest('y')\n"),
            ("b.md", "test.only('x')\n"),
        ]);
        assert_eq!(
            places(&words(&tree)),
            [
                ("a.md", 2),
                ("a.rs", 4),
                ("a.rs", 2),
                ("a.rs", 3),
                ("a.ts", 1)
            ]
        );
    }
}
