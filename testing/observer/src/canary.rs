//! A word that belongs to one session, and must not be seen in any other.

use std::collections::BTreeSet;

/// The prefix of every canary. Nothing else begins so.
pub const PREFIX: &str = "canary-";

/// The canary of a number. It ends with a letter that is no digit: `canary-3z` is not within `canary-31z`.
pub fn of(number: u64) -> String {
    format!("{PREFIX}{number:x}z")
}

/// All different canaries that a text has as a whole.
pub fn all(text: &str) -> Vec<String> {
    let found = words(text).filter(|word| {
        let number = word[PREFIX.len()..].strip_suffix('z').unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    });
    let found: BTreeSet<_> = found.map(str::to_owned).collect();
    found.into_iter().collect()
}

/// The first canary in `text` that is not `own`. A text may be cut anywhere, by a limit on its length or
/// by an end, so a canary without its end counts as one of those that it may be.
pub fn foreign<'a>(text: &'a str, own: &str) -> Option<&'a str> {
    words(text).find(|word| !own.starts_with(word))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(PREFIX).map(|(at, _)| {
        let rest = &text[at..];
        let end = rest[PREFIX.len()..]
            .find(|letter: char| !letter.is_ascii_alphanumeric())
            .map_or(rest.len(), |end| end + PREFIX.len());
        &rest[..end]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canary_is_found_once() {
        let text = format!("{} {}: {}, canary-z canary", of(3), of(0x31), of(3));
        assert_eq!(all(&text), [of(0x31), of(3)]);
    }

    #[test]
    fn a_foreign_canary_is_found_and_a_cut_one_of_its_own_is_not() {
        let own = of(0x31);
        assert_eq!(foreign(&format!("you said {own}, {own}."), &own), None);
        assert_eq!(foreign("you said canary-3", &own), None);
        assert_eq!(foreign("canary-31z canary-2", &own), Some("canary-2"));
        assert_eq!(foreign("canary-3z", &own), Some("canary-3z"));
    }
}
