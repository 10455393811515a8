//! Which pages may use the server from a browser.
//!
//! A browser lets any page open a WebSocket to any server and tells the server only the page's
//! origin. So the origin is checked, exactly, before anything else. Clients that are no browsers
//! send none, and pass. A page is our own if it bears the name under which we are asked; that the
//! name is ours is checked before, by [`super::host`].

use std::collections::HashSet;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{http::error::ApiError, server::App};

/// The origins of other sites whose pages may use the server.
#[derive(Debug)]
pub(crate) struct Origins {
    allowed: HashSet<String>,
}

/// Whose page a request comes from.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Not a page, or one of our own.
    Own,
    /// A page of another site that is allowed.
    Allowed,
    /// A page of another site.
    Foreign,
}

impl Origins {
    /// Takes `https://app.example.com` and the like, without a path.
    pub(crate) fn new(allowed: &[String]) -> Self {
        Self {
            allowed: allowed
                .iter()
                .map(|origin| origin.to_ascii_lowercase())
                .collect(),
        }
    }

    /// Whether a request with these headers is let in.
    #[cfg(feature = "testing")]
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        self.judge(headers) != Verdict::Foreign
    }

    fn judge(&self, headers: &HeaderMap) -> Verdict {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return Verdict::Own,
            (Some(origin), None) => origin.to_str(),
            // No browser sends two; whoever does wants two programs to read different ones.
            (Some(_), Some(_)) => return Verdict::Foreign,
        };
        let Ok(origin) = origin else {
            return Verdict::Foreign;
        };
        let origin = origin.to_ascii_lowercase();
        if self.allowed.contains(&origin) {
            return Verdict::Allowed;
        }
        // Behind a proxy that ends TLS the scheme differs, but host and port do not.
        let page = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        match (page, host) {
            (Some(page), Some(host)) if page == host.to_ascii_lowercase() => Verdict::Own,
            _ => Verdict::Foreign,
        }
    }
}

/// Refuses foreign pages, and lets allowed ones read the answers.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let verdict = app.origins.judge(request.headers());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let asks_first = request.method() == Method::OPTIONS;
    let mut response = match verdict {
        Verdict::Foreign => ApiError::OriginNotAllowed.into_response(),
        Verdict::Allowed if asks_first => StatusCode::NO_CONTENT.into_response(),
        Verdict::Own | Verdict::Allowed => next.run(request).await,
    };
    if verdict == Verdict::Allowed && asks_first {
        // A browser asks before it sends a token across origins.
        let allowed = HeaderValue::from_static("authorization");
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("origin"));
    if let (Verdict::Allowed, Some(origin)) = (verdict, origin) {
        response
            .headers_mut()
            .insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(origin: Option<&'static str>) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::HOST,
            HeaderValue::from_static("app.example.com:8000"),
        );
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        Origins::new(&["https://demo.example.org".to_owned()]).judge(&headers)
    }

    #[test]
    fn only_exact_origins_pass() {
        assert_eq!(judge(None), Verdict::Own);
        assert_eq!(judge(Some("http://app.example.com:8000")), Verdict::Own);
        assert_eq!(judge(Some("https://app.example.com:8000")), Verdict::Own);
        assert_eq!(judge(Some("https://demo.example.org")), Verdict::Allowed);
        for foreign in [
            "null",
            "http://app.example.com",
            "http://app.example.com:9000",
            "http://evil-app.example.com:8000",
            "http://app.example.com:8000.evil.test",
            "http://demo.example.org",
            "https://demo.example.org.evil.test",
            "file://app.example.com:8000",
        ] {
            assert_eq!(judge(Some(foreign)), Verdict::Foreign, "{foreign}");
        }
    }

    #[test]
    fn two_origins_are_a_foreign_one() {
        let mut headers = HeaderMap::new();
        let own = HeaderValue::from_static("http://app.example.com");
        headers.insert(header::HOST, HeaderValue::from_static("app.example.com"));
        headers.append(header::ORIGIN, own.clone());
        assert_eq!(Origins::new(&[]).judge(&headers), Verdict::Own);
        headers.append(header::ORIGIN, own);
        assert_eq!(Origins::new(&[]).judge(&headers), Verdict::Foreign);
    }
}
