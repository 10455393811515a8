//! What a request's head brings as proof: a token, in one of the ways that `docs/protocol.md` lists.

use axum::{
    extract::Query,
    http::{HeaderMap, header, request::Parts},
};
use secrecy::SecretString;

use crate::{auth::Auth, http::error::ApiError};

/// Precedes the token among the subprotocols that a client offers.
const SUBPROTOCOL_TOKEN: &str = "duologue.bearer.";

/// The name of the query's parameter.
const QUERY_TOKEN: &str = "token";

/// What was found.
#[derive(Debug)]
pub(crate) enum Presented {
    Nothing,
    Token(SecretString),
    /// More than one token, or one where none may be.
    Misplaced,
}

impl Presented {
    /// Looks in all places, since a second token would make it unclear who is meant.
    pub(crate) fn read(parts: &Parts, auth: &Auth) -> Self {
        let mut tokens = Vec::new();
        for value in parts.headers.get_all(header::AUTHORIZATION) {
            match value.to_str().ok().and_then(bearer) {
                Some(token) => tokens.push(token),
                // Another scheme, such as a proxy's own, is no token of ours.
                None => return Self::Misplaced,
            }
        }
        tokens.extend(offered(&parts.headers));
        match query_value(parts, QUERY_TOKEN) {
            Ok(None) => {}
            Ok(Some(token)) if auth.config.query_token => tokens.push(token.into()),
            Ok(Some(_)) | Err(_) => return Self::Misplaced,
        }
        match (tokens.pop(), tokens.is_empty()) {
            (None, _) => Self::Nothing,
            (Some(token), true) => Self::Token(token),
            (Some(_), false) => Self::Misplaced,
        }
    }
}

/// The token of an `Authorization`. The scheme's case does not matter.
pub(super) fn bearer(value: &str) -> Option<SecretString> {
    let (scheme, token) = value.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| token.trim().into())
}

/// The tokens among the subprotocols.
fn offered(headers: &HeaderMap) -> Vec<SecretString> {
    let values = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let names = values.filter_map(|value| value.to_str().ok());
    names
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().strip_prefix(SUBPROTOCOL_TOKEN))
        .map(SecretString::from)
        .collect()
}

/// The value of a query's parameter. One that comes twice is refused, since readers would differ on
/// which counts.
pub(super) fn query_value(parts: &Parts, name: &str) -> Result<Option<String>, ApiError> {
    let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
        .map_err(|_| ApiError::BadRequest("the query is not percent-encoded UTF-8".into()))?;
    let mut values = query.0.into_iter().filter(|(key, _)| key == name);
    let value = values.next().map(|(_, value)| value);
    if values.next().is_some() {
        return Err(ApiError::BadRequest(format!("`{name}` comes twice")));
    }
    Ok(value)
}
