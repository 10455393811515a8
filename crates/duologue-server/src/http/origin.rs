//! Which pages may use the server from a browser.
//!
//! A browser lets any page open a WebSocket to any server and tells the server only the page's
//! origin. So the origin is checked, exactly, before anything else. Clients that are no browsers
//! send none, and pass.

use std::collections::HashSet;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
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

    fn judge(&self, headers: &HeaderMap) -> Verdict {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Verdict::Own;
        };
        let Ok(origin) = origin.to_str() else {
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
    let mut response = match verdict {
        Verdict::Foreign => ApiError::OriginNotAllowed.into_response(),
        Verdict::Own | Verdict::Allowed => next.run(request).await,
    };
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
}
