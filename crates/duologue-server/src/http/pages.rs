//! The pages, embedded in the binary: an overview at `/`, the demo under `/demo/`.

use axum::{
    Json,
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};
use serde_json::json;
use uuid::Uuid;

use crate::api_error::ApiError;

/// The folder `web/`. A debug build reads it from disk, so that editing needs no rebuild.
#[derive(RustEmbed)]
#[folder = "../../web"]
#[include = "*.html"]
#[include = "*.css"]
#[include = "*.js"]
#[include = "*.svg"]
#[exclude = "e2e/*"]
struct Web;

/// Forbids inline code and foreign resources. The demo may connect to a server on another host.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
img-src 'self'; connect-src 'self' http: https: ws: wss:; base-uri 'none'; form-action 'none'; \
frame-ancestors 'none'";

/// `GET /`: an overview of the server, as JSON for programs and as a page for browsers.
pub(crate) async fn root(headers: HeaderMap) -> Response {
    let wants_page = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    let mut response = if wants_page {
        file("root.html", &headers)
    } else {
        Json(json!({
            "name": "duologue",
            "version": env!("CARGO_PKG_VERSION"),
            "demo": "/demo/",
            "websocket": "/ws/session/{session_id}?user_id={user_id}",
            "session": "/v1/sessions/{session_id}?user_id={user_id}",
            "health": "/healthz",
            "ready": "/readyz",
        }))
        .into_response()
    };
    response
        .headers_mut()
        .append(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// `GET /demo`: the links of the page are relative, so it has to be served from a folder.
pub(crate) async fn demo_redirect() -> Redirect {
    Redirect::permanent("/demo/")
}

/// `GET /demo/`: the demo page.
pub(crate) async fn demo(headers: HeaderMap) -> Response {
    file("index.html", &headers)
}

/// `GET /demo/{path}`: the files of the pages.
pub(crate) async fn asset(
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
) -> Response {
    // A path that cannot be decoded matches no file.
    match path.ok().and_then(|Path(path)| Web::get(&path)) {
        Some(found) => respond(found, &headers),
        None => ApiError::NoSuchRoute.into_response(),
    }
}

fn file(path: &str, headers: &HeaderMap) -> Response {
    let found = Web::get(path).expect("the pages named in this file are embedded");
    respond(found, headers)
}

fn respond(found: EmbeddedFile, headers: &HeaderMap) -> Response {
    let hash = found.metadata.sha256_hash();
    let (start, _) = hash
        .split_first_chunk::<16>()
        .expect("the hash has 32 bytes");
    let tag = format!("\"{}\"", Uuid::from_bytes(*start).simple());
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|known| known == tag.as_str());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let r#type = found.metadata.mimetype().to_owned();
        ([(header::CONTENT_TYPE, with_charset(r#type))], found.data).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    // Revalidated each time, and sent only after a change: the tag changes with the content.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    let tag = HeaderValue::from_str(&tag).expect("hexadecimal digits fit into a header");
    headers.insert(header::ETAG, tag);
    response
}

fn with_charset(r#type: String) -> String {
    if r#type.starts_with("text/") {
        format!("{type}; charset=utf-8")
    } else {
        r#type
    }
}
