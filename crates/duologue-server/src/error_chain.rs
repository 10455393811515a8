//! An error with its causes, as one line of text.

use std::error::Error;

/// The messages of an error and of its causes, the outermost first, separated by colons. A cause that
/// the message before already ends with is left out, since some libraries repeat it.
pub(crate) fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let added = error.to_string();
        if !text.ends_with(&added) {
            text = format!("{text}: {added}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
