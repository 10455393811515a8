//! Where a session is: from what a person types to a WebSocket URL.

use std::fmt::Write;

use duologue_protocol::{SessionId, UserId};
use tokio_tungstenite::tungstenite::http::Uri;

use crate::session::Position;

/// The server's port, where the address names neither a port nor a scheme.
const PORT: u16 = 8000;

/// What stands before the session's id in a path.
const SESSION_PATH: &str = "/ws/session/";

/// Why an address cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is neither a URL nor `HOST[:PORT]`.
    #[error("`{0}` is not an address; use `HOST:PORT`, `https://HOST` or `wss://HOST`")]
    Malformed(String),
    /// Its scheme is not supported.
    #[error("the scheme of `{0}` is not supported; use ws, wss, http or https")]
    Scheme(String),
    /// It names another session than the one that was given.
    #[error("the URL names session `{in_url}`, but session `{given}` was given")]
    TwoSessions {
        /// The session of the URL.
        in_url: String,
        /// The session that was given.
        given: SessionId,
    },
}

/// A session's WebSocket URL without the position to resume at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `ws://host:port`.
    server: String,
    /// The path, the session included.
    path: String,
    /// The query's pairs, as they are written in URLs.
    query: Vec<String>,
}

impl Address {
    /// Reads what was typed. A full session URL keeps its session, unless it has none.
    ///
    /// `new_session` names the session where nothing else does.
    pub fn new(
        typed: &str,
        session: Option<&SessionId>,
        user: Option<&UserId>,
        new_session: &str,
    ) -> Result<Self, AddressError> {
        let malformed = || AddressError::Malformed(typed.to_owned());
        let with_scheme = if typed.contains("://") {
            typed.to_owned()
        } else {
            format!("ws://{typed}")
        };
        let uri: Uri = with_scheme.parse().map_err(|_| malformed())?;
        let scheme = match uri.scheme_str() {
            Some("ws" | "http") => "ws",
            Some("wss" | "https") => "wss",
            _ => return Err(AddressError::Scheme(typed.to_owned())),
        };
        let authority = uri.authority().ok_or_else(malformed)?;
        // The parser takes any text for a port.
        let is_without_port = authority.as_str().ends_with(authority.host());
        if authority.host().is_empty() || !is_without_port && uri.port_u16().is_none() {
            return Err(malformed());
        }
        let server = if is_without_port && !typed.contains("://") {
            format!("{scheme}://{authority}:{PORT}")
        } else {
            format!("{scheme}://{authority}")
        };

        let path = session_path(uri.path(), session, new_session)?;
        // The client sets the position and the dialect.
        let typed_pairs = uri.query().unwrap_or_default().split('&');
        let mut query: Vec<String> = typed_pairs
            .filter(|pair| !pair.is_empty() && !is_pair_of(pair, &["after", "log_id", "frames"]))
            .map(str::to_owned)
            .collect();
        if let Some(user) = user {
            query.retain(|pair| !is_pair_of(pair, &["user_id"]));
            query.push(format!("user_id={}", percent_encoded(user.as_str())));
        }
        query.push("frames=json".to_owned());
        Ok(Self {
            server,
            path,
            query,
        })
    }

    /// The URL to connect to, resuming at a position if there is one.
    pub fn url(&self, position: Option<&Position>) -> String {
        let mut url = format!("{}{}?{}", self.server, self.path, self.query.join("&"));
        if let Some(position) = position {
            let last_seq = position.last_seq;
            // Writing to a string succeeds.
            let _ = write!(url, "&after={last_seq}");
            if let Some(log_id) = &position.log_id {
                let _ = write!(url, "&log_id={}", percent_encoded(log_id));
            }
        }
        url
    }

    /// The server alone, for people.
    pub fn server(&self) -> &str {
        &self.server
    }
}

/// A path in front of the session's is kept: the server may sit behind a proxy under it.
fn session_path(
    path: &str,
    session: Option<&SessionId>,
    new_session: &str,
) -> Result<String, AddressError> {
    let (prefix, in_url) = match path.split_once(SESSION_PATH) {
        Some((prefix, in_url)) => (prefix, in_url.trim_end_matches('/')),
        None => (
            path.trim_end_matches('/').trim_end_matches("/ws/session"),
            "",
        ),
    };
    let name = match session {
        Some(given) if !in_url.is_empty() && in_url != given.as_str() => {
            return Err(AddressError::TwoSessions {
                in_url: in_url.to_owned(),
                given: given.clone(),
            });
        }
        Some(given) => given.as_str(),
        None if in_url.is_empty() => new_session,
        None => in_url,
    };
    Ok(format!("{prefix}{SESSION_PATH}{name}"))
}

fn is_pair_of(pair: &str, names: &[&str]) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    names.contains(&name)
}

fn percent_encoded(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| match byte {
            plain if is_plain(plain) => char::from(plain).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(typed: &str, session: Option<&str>, user: Option<&str>) -> String {
        let session = session.map(|id| SessionId::new(id).unwrap());
        let user = user.map(|id| UserId::new(id).unwrap());
        Address::new(typed, session.as_ref(), user.as_ref(), "new")
            .unwrap()
            .url(None)
    }

    #[test]
    fn every_form_of_a_server_name_becomes_a_session_url() {
        for (typed, expected) in [
            ("ws://127.0.0.1:8000", "ws://127.0.0.1:8000/ws/session/new"),
            ("localhost", "ws://localhost:8000/ws/session/new"),
            ("localhost:9000", "ws://localhost:9000/ws/session/new"),
            ("[::1]:9000", "ws://[::1]:9000/ws/session/new"),
            (
                "http://localhost:9000/",
                "ws://localhost:9000/ws/session/new",
            ),
            ("https://example.com", "wss://example.com/ws/session/new"),
            ("wss://example.com/a/", "wss://example.com/a/ws/session/new"),
            ("ws://h:1/ws/session/mine", "ws://h:1/ws/session/mine"),
            ("ws://h:1/ws/session/", "ws://h:1/ws/session/new"),
        ] {
            assert_eq!(url(typed, None, None), format!("{expected}?frames=json"));
        }
    }

    #[test]
    fn flags_name_the_session_and_the_user() {
        assert_eq!(
            url("h:1", Some("s:1"), Some("josé & co")),
            "ws://h:1/ws/session/s:1?user_id=jos%C3%A9%20%26%20co&frames=json"
        );
        assert_eq!(
            url(
                "ws://h/ws/session/s?user_id=a&k=v&after=7&frames=text",
                None,
                Some("b")
            ),
            "ws://h/ws/session/s?k=v&user_id=b&frames=json"
        );
    }

    #[test]
    fn the_url_has_the_position_to_resume_at() {
        let address = Address::new("h:1", None, None, "s").unwrap();
        let position = Position {
            last_seq: 7,
            log_id: Some("a&b".into()),
        };
        assert_eq!(
            address.url(Some(&position)),
            "ws://h:1/ws/session/s?frames=json&after=7&log_id=a%26b"
        );
    }

    #[test]
    fn an_unusable_address_is_refused_with_what_to_use() {
        let refuse = |typed: &str, session: Option<&str>| {
            let session = session.map(|id| SessionId::new(id).unwrap());
            Address::new(typed, session.as_ref(), None, "new")
                .unwrap_err()
                .to_string()
        };
        for typed in ["", "a b", "ws://", "h:port"] {
            assert!(refuse(typed, None).contains("HOST:PORT"), "{typed}");
        }
        assert!(refuse("ftp://h", None).contains("use ws, wss"));
        assert!(refuse("ws://h/ws/session/a", Some("b")).contains("session `a`"));
    }
}
