//! Words and phrases, found in text as whole words and whatever their case.

use regex::Regex;

/// A set of words and phrases. The empty set is in no text.
#[derive(Debug)]
pub(crate) struct Phrases {
    anywhere: Option<Regex>,
    leading: Option<Regex>,
}

impl Phrases {
    /// A blank phrase is left to the caller to refuse; here it would be in every text.
    pub(crate) fn new<'a>(
        phrases: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, regex::Error> {
        let mut words: Vec<String> = phrases.into_iter().map(whole_words).collect();
        if words.is_empty() {
            return Ok(Self {
                anywhere: None,
                leading: None,
            });
        }
        // Alternatives are tried in order, and a longer phrase must not lose to its beginning.
        words.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let words = words.join("|");
        Ok(Self {
            anywhere: Some(Regex::new(&format!("(?i)(?:{words})"))?),
            leading: Some(Regex::new(&format!(
                r"(?i)^(?:[\s,.;:!]*(?:{words}))+[\s,.;:!]*"
            ))?),
        })
    }

    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.anywhere
            .as_ref()
            .is_some_and(|regex| regex.is_match(text))
    }

    /// Whether `text` says nothing else.
    pub(crate) fn are_all_of(&self, text: &str) -> bool {
        self.strip(text) == Some("")
    }

    /// What follows the phrases that `text` begins with; `None` where it begins with none.
    pub(crate) fn strip<'t>(&self, text: &'t str) -> Option<&'t str> {
        let found = self.leading.as_ref()?.find(text)?;
        Some(&text[found.end()..])
    }
}

/// A regular expression that finds `phrase` only where no word goes on at its ends.
fn whole_words(phrase: &str) -> String {
    let words: Vec<String> = phrase.split_whitespace().map(regex::escape).collect();
    let body = words.join(r"\s+").replace('\'', "['\u{2019}]");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let begins = if phrase.trim_start().starts_with(is_word) {
        r"\b"
    } else {
        ""
    };
    let ends = if phrase.trim_end().ends_with(is_word) {
        r"\b"
    } else {
        ""
    };
    format!("{begins}{body}{ends}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phrase_is_found_as_whole_words_whatever_its_case_and_spacing() {
        let phrases = Phrases::new(["never mind", "co2", "c++", "don't bother"]).unwrap();
        for text in [
            "Never  mind!",
            "CO2?",
            "I like c++.",
            "oh, don\u{2019}t bother",
        ] {
            assert!(phrases.is_in(text), "{text}");
        }
        for text in ["nevermind", "co2e", "co 2", "mind never", ""] {
            assert!(!phrases.is_in(text), "{text}");
        }
    }

    #[test]
    fn the_phrases_that_a_text_begins_with_are_stripped_however_many() {
        let phrases = Phrases::new(["no", "no wait", "sorry", "i meant"]).unwrap();
        for (text, rest) in [
            ("no, ORD-1002", Some("ORD-1002")),
            ("No wait... sorry, I meant ORD-1002.", Some("ORD-1002.")),
            ("nothing", None),
            ("ORD-1002, sorry", None),
        ] {
            assert_eq!(phrases.strip(text), rest, "{text}");
        }
    }

    #[test]
    fn a_text_of_nothing_else_is_distinguished_from_a_longer_one() {
        let phrases = Phrases::new(["stop", "please"]).unwrap();
        assert!(phrases.are_all_of("Please, stop!"));
        assert!(!phrases.are_all_of("Stop the music"));
        assert!(!phrases.are_all_of(""));
    }

    #[test]
    fn the_empty_set_is_in_no_text() {
        let none = Phrases::new([]).unwrap();
        assert!(!none.is_in("anything"));
        assert_eq!(none.strip("anything"), None);
    }
}
