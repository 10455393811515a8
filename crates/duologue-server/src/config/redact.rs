//! What of a setting may be shown.

use toml::Value;

/// Stands for a secret.
const REDACTED: &str = "[redacted]";

/// The value of `key` as it may be shown: keys and tokens are hidden, of URLs the password.
///
/// The rule goes by the end of the name, so that a key added later is covered without being listed.
pub(super) fn shown(key: &str, value: &Value) -> Value {
    let is_secret = ["key", "token", "tokens", "secret", "password"]
        .iter()
        .any(|end| key.ends_with(end));
    let is_empty = value.as_str() == Some("");
    match value {
        // Whether there is something; never what.
        Value::Boolean(_) => value.clone(),
        Value::Array(items) if is_secret => Value::Array(vec![REDACTED.into(); items.len()]),
        // Whatever its kind: a key of digits may have been written as a number.
        _ if is_secret && !is_empty => REDACTED.into(),
        Value::String(text) if key.ends_with("url") => without_password(text).into(),
        other => other.clone(),
    }
}

/// A URL without its password, which may stand before the host or in the query.
///
/// Written for URLs that are not quite right, since people look at them when something is wrong: a
/// password with an unescaped `/`, `?` or `@` in it is hidden in full.
fn without_password(url: &str) -> String {
    if url.starts_with("sqlite:") {
        return url.to_owned();
    }
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |end| end + 3));
    let rest = match rest.rfind('@') {
        Some(at) => match rest[..at].find(':') {
            Some(colon) => format!("{}{REDACTED}{}", &rest[..=colon], &rest[at..]),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    let Some((place, query)) = rest.split_once('?') else {
        return format!("{scheme}{rest}");
    };
    let pairs: Vec<String> = query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("password") => {
                format!("{name}={REDACTED}")
            }
            _ => pair.to_owned(),
        })
        .collect();
    format!("{scheme}{place}?{}", pairs.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password_however_it_is_written() {
        for (url, shown) in [
            ("sqlite:duologue.db", "sqlite:duologue.db"),
            ("sqlite:a@b:c@d.db", "sqlite:a@b:c@d.db"),
            ("user:canary@host/db", "user:[redacted]@host/db"),
            ("postgres://host:5432/db", "postgres://host:5432/db"),
            ("postgres://user@host/db", "postgres://user@host/db"),
            (
                "postgres://user:canary@host:5432/db?sslmode=require",
                "postgres://user:[redacted]@host:5432/db?sslmode=require",
            ),
            (
                "postgres://user:ca@na/r?y@host/db",
                "postgres://user:[redacted]@host/db",
            ),
            (
                "postgres://host/db?user=u&password=canary",
                "postgres://host/db?user=u&password=[redacted]",
            ),
        ] {
            assert_eq!(without_password(url), shown);
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
}
