//! A word that belongs to one session, and must not be seen in any other.

use std::collections::BTreeSet;

const PREFIX: &str = "canary-";

/// The session's word. Its letters end where they should: `canary-3z` is not within `canary-31z`.
pub(crate) fn of(number: u64) -> String {
    format!("{PREFIX}{number}z")
}

/// All different canaries in a text.
pub(crate) fn all(text: &str) -> Vec<String> {
    let found = text.split(PREFIX).skip(1).filter_map(|rest| {
        let (number, _) = rest.split_once('z')?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| format!("{PREFIX}{number}z"))
    });
    Vec::from_iter(found.collect::<BTreeSet<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canary_is_found_once() {
        let text = format!("{} {}{} canary-z canary", of(3), of(31), of(3));
        assert_eq!(all(&text), [of(31), of(3)]);
    }
}
