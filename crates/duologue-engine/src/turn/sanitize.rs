//! Sanitizes text and JSON of models and tools.
//!
//! Stores replace NUL by U+FFFD. What is sent must equal what is read back later, so NUL is replaced
//! before either.

use duologue_protocol::TextPieces;
use serde_json::Value;

use crate::store::normalize::stored_text;

/// Text as it is stored.
pub(super) fn text(text: String) -> String {
    if text.contains('\0') {
        stored_text(&text).into_owned()
    } else {
        text
    }
}

/// Pieces of text as they are stored.
pub(super) fn pieces(pieces: TextPieces) -> TextPieces {
    if pieces.contains('\0') {
        pieces.iter().map(stored_text).collect()
    } else {
        pieces
    }
}

/// JSON as it is stored.
pub(super) fn json(value: Value) -> Value {
    match value {
        Value::String(string) => Value::String(text(string)),
        Value::Array(items) => items.into_iter().map(json).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            members
                .map(|(name, value)| (text(name), json(value)))
                .collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Cuts a result that is too large, and marks it as cut.
pub(super) fn capped_json(value: Value, bytes_max: usize) -> Value {
    let text = value.to_string();
    if text.len() <= bytes_max {
        return value;
    }
    Value::String(capped_text(text, bytes_max))
}

/// Cuts text that is too large at the limit, and marks it as cut.
pub(super) fn capped_text(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let kept = beginning(&text, bytes_max);
    format!("{kept}… (cut: {} of {} bytes)", kept.len(), text.len())
}

/// As many whole characters of `text` as fit into `bytes_max`.
pub(super) fn beginning(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_large_result_is_cut_between_characters_and_says_so() {
        let value = Value::String("é".repeat(100));
        let Value::String(cut) = capped_json(value.clone(), 50) else {
            panic!("not text")
        };
        assert!(
            cut.starts_with("\"éé") && cut.ends_with("(cut: 49 of 202 bytes)"),
            "{cut}"
        );
        assert_eq!(capped_json(value.clone(), 202), value);
    }

    #[test]
    fn a_nul_is_replaced_wherever_it_hides() {
        let given = json!({ "a\0": [1, "b\0", { "c": null }], "d": "e" });
        let kept = json!({ "a\u{fffd}": [1, "b\u{fffd}", { "c": null }], "d": "e" });
        assert_eq!(super::json(given), kept);
        assert_eq!(text("a\0b".to_owned()), "a\u{fffd}b");
    }
}
