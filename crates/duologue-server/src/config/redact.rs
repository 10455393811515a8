//! Settings as they may be shown.

use toml::Value;

use crate::redacted_url::{REDACTED, redact_url};

/// The value of `key` as it may be shown: without keys, tokens, and the credentials of URLs.
///
/// The rules depend on the end of the name, and on the value, so that a setting that is added later is
/// covered without being listed.
pub(super) fn shown(key: &str, value: &Value) -> Value {
    let is_secret = ["key", "token", "tokens", "secret", "password"]
        .iter()
        .any(|end| key.ends_with(end));
    let is_empty = value.as_str() == Some("");
    match value {
        // Such as `auth.query_token`, which is no token.
        Value::Boolean(_) => value.clone(),
        Value::Array(items) if is_secret => Value::Array(vec![REDACTED.into(); items.len()]),
        // Of any kind: a key of digits may have been written as a number.
        _ if is_secret && !is_empty => REDACTED.into(),
        Value::String(text) if key.ends_with("url") || text.contains("://") => {
            redact_url(text).into()
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| shown(key, item)).collect()),
        other => other.clone(),
    }
}

/// A message about the value of `key`, which may quote it, with the value as it may be shown.
pub(super) fn redact_quotes(message: &str, key: &str, value: &Value) -> String {
    match value {
        Value::String(text) => {
            let Value::String(shown) = shown(key, value) else {
                return message.to_owned();
            };
            if shown == *text {
                return message.to_owned();
            }
            // A quote in the message may have `"` and `\` escaped.
            let escaped = text.escape_debug().to_string();
            message.replace(text, &shown).replace(&escaped, &shown)
        }
        Value::Array(items) => items.iter().fold(message.to_owned(), |message, item| {
            redact_quotes(&message, key, item)
        }),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_credentials_of_a_url_are_hidden_in_any_setting() {
        let url = "https://ann:canary@a.example/?api-key=canary";
        let origins = Value::Array(vec![url.into()]);
        for (key, value) in [
            ("store.url", Value::from(url)),
            ("auth.jwks_url", Value::from(url)),
            ("server.host", Value::from(url)),
            ("server.origins_allowed", origins),
        ] {
            let shown = shown(key, &value).to_string();
            assert!(!shown.contains("canary"), "{key}: {shown}");
            assert!(shown.contains("a.example"), "{key}: {shown}");
        }
    }

    #[test]
    fn keys_are_hidden_unless_they_are_empty() {
        let show = |key: &str, text: &str| shown(key, &Value::from(text));
        assert_eq!(
            show("model.groq.api_key", "canary"),
            Value::from("[redacted]")
        );
        assert_eq!(
            shown("model.groq.api_key", &Value::from(12345)),
            Value::from("[redacted]")
        );
        assert_eq!(show("model.groq.api_key", ""), Value::from(""));
        assert_eq!(show("model.groq.model", "llama"), Value::from("llama"));
        let tokens = Value::Array(vec!["canary".into()]);
        let shown_tokens = shown("auth.admin_tokens", &tokens).to_string();
        assert_eq!(shown_tokens, r#"["[redacted]"]"#);
        assert_eq!(
            shown("auth.query_token", &Value::from(true)),
            Value::from(true)
        );
    }
    #[test]
    fn a_message_quotes_no_credentials() {
        let quotes = |key: &str, text: &str| {
            let message = format!("invalid value: string {text:?}, or {text}");
            redact_quotes(&message, key, &Value::from(text))
        };
        for (key, text) in [
            ("store.url", "user:canary@host/db"),
            ("store.url", "postgres://user:can\"ary@canary@host/db"),
            ("server.host", "https://host/?password=canary@canary"),
            ("model.openai.api_key", "canary"),
        ] {
            let message = quotes(key, text);
            assert!(!message.contains("ary"), "{key}: {message}");
        }
        let message = quotes("server.host", "a b");
        assert_eq!(message, "invalid value: string \"a b\", or a b");
    }
}
