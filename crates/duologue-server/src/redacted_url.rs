//! URLs as they may be shown: without credentials.

/// Replaces what is hidden.
pub(crate) const REDACTED: &str = "[redacted]";

/// Parameters of queries whose values are no secrets. Any other may be one: `password`, `pwd`,
/// `api-key`, `sig` and many more are in use.
const SHOWN_PARAMETERS: [&str; 9] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "options",
    "port",
    "sslmode",
    "target_session_attrs",
];

/// A text with the credentials of its URL hidden: the user and the password, the values of the query,
/// and the fragment. A text without `://` and `@` is returned as it is, up to its query.
///
/// It is written for URLs that are invalid too, since people look at them when something is wrong: a
/// password with an unescaped `/`, `?`, `#` or `@` is hidden completely.
pub(crate) fn redact_url(text: &str) -> String {
    if text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |end| end + 3));
    let (userinfo, rest) = match rest.rfind('@') {
        Some(at) => (REDACTED, &rest[at..]),
        None => ("", rest),
    };
    let (rest, fragment) = split(rest, '#');
    let (place, query) = split(rest, '?');
    let mut shown = format!("{scheme}{userinfo}{place}");
    if let Some(query) = query {
        let pairs: Vec<String> = query.split('&').map(redact_pair).collect();
        shown = format!("{shown}?{}", pairs.join("&"));
    }
    if fragment.is_some() {
        shown = format!("{shown}#{REDACTED}");
    }
    shown
}

/// The text before the separator, and the text after it.
fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before, Some(after)),
        None => (text, None),
    }
}

fn redact_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if SHOWN_PARAMETERS.contains(&name) => pair.to_owned(),
        Some((name, _)) => format!("{name}={REDACTED}"),
        None if pair.is_empty() => String::new(),
        None => REDACTED.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_credentials_however_it_is_written() {
        for (url, shown) in [
            ("auto", "auto"),
            ("sqlite:duologue.db", "sqlite:duologue.db"),
            ("sqlite:a@b:c@d.db", "sqlite:a@b:c@d.db"),
            ("user:canary@host/db", "[redacted]@host/db"),
            ("postgres://host:5432/db", "postgres://host:5432/db"),
            ("https://canary@host/v1", "https://[redacted]@host/v1"),
            (
                "postgres://user:canary@host:5432/db?sslmode=require",
                "postgres://[redacted]@host:5432/db?sslmode=require",
            ),
            (
                "postgres://user:ca@na/r?y#@host/db",
                "postgres://[redacted]@host/db",
            ),
            (
                "postgres://host/db?user=u&password=canary",
                "postgres://host/db?user=[redacted]&password=[redacted]",
            ),
            (
                "https://host/v1?api-key=canary&pass=canary&pwd=canary",
                "https://host/v1?api-key=[redacted]&pass=[redacted]&pwd=[redacted]",
            ),
            (
                "https://host/v1?SSLMODE=canary&canary",
                "https://host/v1?SSLMODE=[redacted]&[redacted]",
            ),
            ("https://host/v1#canary", "https://host/v1#[redacted]"),
        ] {
            assert_eq!(redact_url(url), shown);
        }
    }
}
