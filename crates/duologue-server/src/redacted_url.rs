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

/// Parameters whose names are shown without their values, in lower case. A name that is not known may
/// be the rest of a password with an unescaped `&`.
const NAMED_PARAMETERS: [&str; 15] = [
    "access_token",
    "api-key",
    "api_key",
    "apikey",
    "auth",
    "key",
    "pass",
    "passwd",
    "password",
    "pwd",
    "secret",
    "sig",
    "token",
    "user",
    "username",
];

/// A text with the credentials of its URL hidden: the user and the password, the values of the query,
/// and the fragment.
///
/// It is written for URLs that are invalid too, since people look at them when something is wrong: a
/// password with an unescaped `/`, `?`, `#`, `@` or `&` is hidden completely. Where a text can be read
/// in two ways, it hides what is a secret in either.
pub(crate) fn redact_url(text: &str) -> String {
    if text.starts_with("sqlite:") {
        return text.to_owned();
    }
    let (scheme, rest) = text.split_at(scheme_length(text));
    let (before, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    // The `@` ends a user and password that contain `?` or `#`, or is part of a value of the query.
    // The host is before it or after it, and a secret is at the other place.
    let is_ambiguous = tail.contains('@');
    let (userinfo, place) = match before.rfind('@') {
        Some(at) => (REDACTED, &before[at..]),
        None => ("", before),
    };
    // Of `postgres://user:password` only the host is missing.
    let hosts = place.split('/').next().unwrap_or_default();
    if is_ambiguous || !hosts.split(',').all(has_valid_port) {
        return format!("{scheme}{REDACTED}");
    }
    format!("{scheme}{userinfo}{place}{}", redact_tail(tail))
}

/// The length of `postgres://`, or zero if the text does not begin like that.
fn scheme_length(text: &str) -> usize {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    match text.split_once("://") {
        Some((scheme, _)) if scheme.chars().all(is_part) => scheme.len() + 3,
        _ => 0,
    }
}

/// Whether a host has no port or one of digits.
fn has_valid_port(host: &str) -> bool {
    let after_ip_v6 = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    after_ip_v6
        .split_once(':')
        .is_none_or(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
}

/// The query and the fragment.
fn redact_tail(text: &str) -> String {
    let (query, fragment) = text.split_at(text.find('#').unwrap_or(text.len()));
    let mut shown = String::new();
    if let Some(query) = query.strip_prefix('?') {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs: Vec<String> = pairs.map(redact_pair).collect();
        shown = format!("?{}", pairs.join("&"));
    }
    if !fragment.is_empty() {
        shown = format!("{shown}#{REDACTED}");
    }
    shown
}

fn redact_pair(pair: &str) -> String {
    let Some((name, value)) = pair.split_once('=') else {
        return REDACTED.to_owned();
    };
    // Another character may begin a parameter after a separator that is not `&`.
    let is_plain = |c: char| c.is_alphanumeric() || "_-.,:/+%".contains(c);
    let lower = name.to_ascii_lowercase();
    if SHOWN_PARAMETERS.contains(&name) && value.chars().all(is_plain) {
        pair.to_owned()
    } else if SHOWN_PARAMETERS.contains(&lower.as_str())
        || NAMED_PARAMETERS.contains(&lower.as_str())
    {
        format!("{name}={REDACTED}")
    } else {
        REDACTED.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, test_runner::TestCaseError};

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
                "postgres://user:ca@na/r@y@host/db",
                "postgres://[redacted]@host/db",
            ),
            (
                "postgres://user:ca@na/r?y#@host/db",
                "postgres://[redacted]",
            ),
            (
                "postgres://a:1,[::1]:2/db?host=/run,b",
                "postgres://a:1,[::1]:2/db?host=/run,b",
            ),
            ("postgres://user:canary", "postgres://[redacted]"),
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
            ("https://host/v1?canary=1", "https://host/v1?[redacted]"),
            (
                "postgres://host/db?sslmode=require;password=canary",
                "postgres://host/db?sslmode=[redacted]",
            ),
        ] {
            assert_eq!(redact_url(url), shown);
        }
    }
    /// A password may contain any character that separates the parts of a URL. Wherever it stands, no
    /// three characters of it are shown. Its letters occur nowhere else.
    fn assert_hidden(secret: &str) -> Result<(), TestCaseError> {
        let mut urls = vec![
            format!("user:{secret}@host/db"),
            format!("postgres://{secret}@host/db"),
            format!("postgres://user:{secret}@host:5432/db"),
            format!("postgres://user:{secret}@host?sslmode=require&connect_timeout=5"),
            format!("postgres://user:{secret}@host/db?password={secret}"),
            format!("https://host/v1#{secret}"),
        ];
        if !secret.contains('@') {
            urls.push(format!("postgres://user:{secret}"));
        }
        for key in [
            "password", "pass", "pwd", "api-key", "token", "secret", "sig", "other",
        ] {
            urls.push(format!("https://host?{key}={secret}"));
            urls.push(format!("https://host/v1?{key}={secret}"));
            urls.push(format!("postgres://host:5432/db?{key}={secret}&port=5432"));
            urls.push(format!("postgres://u:p@host/db?port=5432&{key}={secret}#x"));
        }
        let characters: Vec<char> = secret.chars().collect();
        for url in urls {
            let shown = redact_url(&url);
            for piece in characters.windows(3).map(String::from_iter) {
                // Every URL contains this one.
                let is_leaked = piece != "://" && shown.contains(&piece);
                prop_assert!(!is_leaked, "{url} is shown as {shown}");
            }
        }
        Ok(())
    }

    #[test]
    fn the_passwords_of_known_leaks_are_hidden() {
        for secret in [
            "Aaa@Bbb",
            "p@ss",
            "p@ss#word",
            "Xxx&Yyy=Zzz",
            "/Xxx",
            "X?Y@Zzz",
        ] {
            assert_hidden(secret).unwrap();
        }
    }

    proptest! {
        #[test]
        fn no_piece_of_a_password_is_shown(secret in "[WXYZ@#?/:&%=]{3,16}") {
            assert_hidden(&secret)?;
        }
    }
}
