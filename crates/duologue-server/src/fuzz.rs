//! Fuzzing of everything that parses the head of a request, a token, or the configuration.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, Version};
use ipnet::IpNet;

pub use crate::auth::fuzz::token;
use crate::{
    client_address::ClientAddress, config, hosts::AllowedHosts, http::socket,
    origins::AllowedOrigins,
};

/// Reads the path and the query of a handshake.
pub fn handshake(bytes: &[u8]) {
    let target = String::from_utf8_lossy(bytes);
    let (session, query) = target.split_once('?').unwrap_or((&target, ""));
    if let Ok(uri) = format!("/?{query}").parse() {
        socket::read(session, &uri);
    }
}

/// Reads the headers `Host`, `Origin` and `X-Forwarded-For`, one for each line that begins with `h`, `o`
/// or `f`.
pub fn request_head(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some((kind, value)) = line.split_first() else {
            continue;
        };
        let name = match kind {
            b'h' => HeaderName::from_static("host"),
            b'o' => HeaderName::from_static("origin"),
            b'f' => HeaderName::from_static("x-forwarded-for"),
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    check_origin(&headers);
    check_client_address(&headers);
}

/// No page of another site is accepted.
fn check_origin(headers: &HeaderMap) {
    let loopback = std::net::Ipv4Addr::LOCALHOST.into();
    let hosts = AllowedHosts::new(&["chat.example.com".into()], loopback);
    let origins = AllowedOrigins::new(&["https://app.example.com".into()]);
    let has_host = hosts.admits(Version::HTTP_11, &Uri::from_static("/"), headers);
    let is_accepted = has_host && origins.admits(headers);
    let Some(origin) = headers.get("origin").filter(|_| is_accepted) else {
        return;
    };
    let origin = origin.to_str().expect("it was compared with a text");
    let page = origin.split_once("://").expect("it has a scheme").1;
    let is_known = [
        "localhost",
        "127.",
        "[::",
        "chat.example.com",
        "app.example.com",
    ]
    .iter()
    .any(|own| page.to_ascii_lowercase().starts_with(own));
    assert!(is_known, "a page of {origin} was accepted");
}

/// A client that is not a trusted proxy cannot choose its address.
fn check_client_address(headers: &HeaderMap) {
    let network: IpNet = "10.0.0.0/8".parse().expect("it is a network");
    let peer = "203.0.113.9".parse().expect("it is an address");
    let client = ClientAddress::of(peer, headers, &[network]);
    assert_eq!(client, ClientAddress(peer), "the header was used");
    let proxy = "10.0.0.1".parse().expect("it is an address");
    ClientAddress::of(proxy, headers, &[network]);
}

/// Reads a configuration file.
pub fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Err(error) = config::load_text(&text) {
        drop(error.to_string());
    }
}
