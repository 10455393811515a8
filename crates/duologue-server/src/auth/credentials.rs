//! The credentials in the head of a request: a token, in one of the places that `docs/protocol.md`
//! lists.

use axum::http::{HeaderMap, header, request::Parts};
use secrecy::SecretString;

use crate::query::Parameters;

/// Precedes the token among the subprotocols that a client offers.
const SUBPROTOCOL_TOKEN: &str = "duologue.bearer.";

/// The name of the query's parameter.
const QUERY_TOKEN: &str = "token";

/// The credentials of a request.
#[derive(Debug)]
pub(crate) enum Credentials {
    /// There is no token.
    None,
    Token(SecretString),
    /// More than one token, or one in a place where none is allowed.
    Misplaced,
}

impl Credentials {
    /// Reads all places, since a second token would make the user ambiguous. `query_token` says
    /// whether the query may carry one.
    pub(crate) fn read(parts: &Parts, query_token: bool) -> Self {
        let mut tokens = Vec::new();
        for value in parts.headers.get_all(header::AUTHORIZATION) {
            match value.to_str().ok().and_then(bearer) {
                Some(token) => tokens.push(token),
                // Another scheme, such as a proxy's own, is not a user's token.
                None => return Self::Misplaced,
            }
        }
        tokens.extend(offered(&parts.headers));
        let in_query = Parameters::read(&parts.uri)
            .and_then(|parameters| Ok(parameters.one(QUERY_TOKEN)?.map(str::to_owned)));
        match in_query {
            Ok(None) => {}
            Ok(Some(token)) if query_token => tokens.push(token.into()),
            Ok(Some(_)) | Err(_) => return Self::Misplaced,
        }
        match (tokens.pop(), tokens.is_empty()) {
            (None, _) => Self::None,
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
