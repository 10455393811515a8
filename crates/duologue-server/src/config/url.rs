//! Checks of URLs.

use axum::http::Uri;

/// Whether it is an HTTP URL without a user and a password, which logs must not have.
pub(super) fn is_http_url(text: &str) -> bool {
    text.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| {
                !authority.host().is_empty() && !authority.as_str().contains('@')
            })
    })
}

/// Whether nobody between the server and the issuer can replace the keys.
pub(super) fn is_safe_url(text: &str) -> bool {
    let is_loopback = |uri: &Uri| {
        let host = uri.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let ip = address.parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
    };
    is_http_url(text)
        && text
            .parse::<Uri>()
            .is_ok_and(|uri| uri.scheme_str() == Some("https") || is_loopback(&uri))
}
