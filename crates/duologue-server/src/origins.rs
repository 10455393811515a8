//! Pages that may use the server from a browser.
//!
//! A browser lets any page open a WebSocket to any server, and sends the server only the page's
//! origin. So the origin is checked, exactly, before anything else. Clients that are not browsers
//! send none, and pass. A page is the server's own if its origin has the host name of the request;
//! that this name is accepted is checked before, by [`crate::hosts`].

use std::collections::HashSet;

use axum::http::{HeaderMap, header};

/// The origins of other sites whose pages may use the server.
#[derive(Debug)]
pub(crate) struct AllowedOrigins {
    allowed: HashSet<String>,
}

/// The site that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestOrigin {
    /// Not a page, or a page of this server.
    Own,
    /// A page of another site that is allowed.
    Allowed,
    /// A page of another site.
    Foreign,
}

impl AllowedOrigins {
    /// `allowed` are origins such as `https://app.example.com`, without a path.
    pub(crate) fn new(allowed: &[String]) -> Self {
        Self {
            allowed: allowed
                .iter()
                .map(|origin| origin.to_ascii_lowercase())
                .collect(),
        }
    }

    /// Whether a request with these headers is accepted.
    #[cfg(feature = "testing")]
    pub(crate) fn admits(&self, headers: &HeaderMap) -> bool {
        self.classify(headers) != RequestOrigin::Foreign
    }

    /// Classifies the origin of a request.
    pub(crate) fn classify(&self, headers: &HeaderMap) -> RequestOrigin {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        let origin = match (origins.next(), origins.next()) {
            (None, _) => return RequestOrigin::Own,
            (Some(origin), None) => origin.to_str(),
            // Browsers send one. Two could make two programs disagree.
            (Some(_), Some(_)) => return RequestOrigin::Foreign,
        };
        let Ok(origin) = origin else {
            return RequestOrigin::Foreign;
        };
        let origin = origin.to_ascii_lowercase();
        if self.allowed.contains(&origin) {
            return RequestOrigin::Allowed;
        }
        // Behind a proxy that ends TLS the scheme differs, but host and port do not.
        let page = origin
            .strip_prefix("http://")
            .or_else(|| origin.strip_prefix("https://"));
        let host = headers
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        match (page, host) {
            (Some(page), Some(host)) if page == host.to_ascii_lowercase() => RequestOrigin::Own,
            _ => RequestOrigin::Foreign,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn classify(origin: Option<&'static str>) -> RequestOrigin {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::HOST,
            HeaderValue::from_static("app.example.com:8000"),
        );
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        AllowedOrigins::new(&["https://demo.example.org".to_owned()]).classify(&headers)
    }

    #[test]
    fn only_exact_origins_pass() {
        assert_eq!(classify(None), RequestOrigin::Own);
        assert_eq!(
            classify(Some("http://app.example.com:8000")),
            RequestOrigin::Own
        );
        assert_eq!(
            classify(Some("https://app.example.com:8000")),
            RequestOrigin::Own
        );
        assert_eq!(
            classify(Some("https://demo.example.org")),
            RequestOrigin::Allowed
        );
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
            assert_eq!(classify(Some(foreign)), RequestOrigin::Foreign, "{foreign}");
        }
    }

    #[test]
    fn two_origins_are_a_foreign_one() {
        let mut headers = HeaderMap::new();
        let own = HeaderValue::from_static("http://app.example.com");
        headers.insert(header::HOST, HeaderValue::from_static("app.example.com"));
        headers.append(header::ORIGIN, own.clone());
        assert_eq!(
            AllowedOrigins::new(&[]).classify(&headers),
            RequestOrigin::Own
        );
        headers.append(header::ORIGIN, own);
        assert_eq!(
            AllowedOrigins::new(&[]).classify(&headers),
            RequestOrigin::Foreign
        );
    }
}
