//! Operators' tokens: random, stored as hashes, compared in constant time.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, rand};
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::ExposeSecret;

use crate::{auth::credentials::bearer, config::AdminTokenHash};

/// Distinguishes an operator's token from a user's, for people who find one in the wrong place.
const TOKEN_PREFIX: &str = "duologue_admin_";
const TOKEN_BYTES: usize = 32;

/// The hashes of the valid tokens. A plain hash is enough: tokens are random and cannot be guessed.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdminTokens {
    hashes: Vec<AdminTokenHash>,
}

/// A new token, and its hash for the server's configuration. The token is shown once.
pub struct NewAdminToken {
    /// For the operator.
    pub token: String,
    /// For `auth.admin_tokens`.
    pub hash: String,
}

impl AdminTokens {
    /// Reads `sha256:…`, 64 hexadecimal digits each. `None` if one of them has another form.
    pub(crate) fn read(hashes: &[String]) -> Option<Self> {
        AdminTokenHash::read_all(hashes).map(|hashes| Self { hashes })
    }

    /// Whether the list is empty. Then there are no operators.
    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the request carries one of the tokens. All hashes are compared, so that the time does
    /// not depend on which one matches.
    pub(crate) fn accept(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some(token) = value.to_str().ok().and_then(bearer) else {
            return false;
        };
        let given = digest::digest(&digest::SHA256, token.expose_secret().as_bytes());
        let matches = |AdminTokenHash(hash): &AdminTokenHash| {
            verify_slices_are_equal(hash, given.as_ref()).is_ok()
        };
        self.hashes
            .iter()
            .fold(false, |found, hash| matches(hash) | found)
    }
}

impl NewAdminToken {
    /// Makes a token of random bytes.
    pub fn random() -> Self {
        let mut bytes = [0; TOKEN_BYTES];
        rand::fill(&mut bytes).expect("the system has random bytes");
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let hash = hash.as_ref().try_into().expect("SHA-256 has 32 bytes");
        let hash = AdminTokenHash(hash).to_string();
        Self { token, hash }
    }
}

impl fmt::Debug for NewAdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAdminToken")
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(authorization: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_new_token_matches_its_hash_and_no_other() {
        let (one, other) = (NewAdminToken::random(), NewAdminToken::random());
        assert_ne!(one.token, other.token);
        let tokens = AdminTokens::read(&[other.hash.clone(), one.hash.clone()]).unwrap();
        let bearer = format!("Bearer {}", one.token);
        assert!(tokens.accept(&headers(&[&bearer])));
        for wrong in [
            vec![],
            vec!["Bearer"],
            vec!["Bearer "],
            vec![one.token.as_str()],
            vec![&bearer, &bearer],
            vec!["Bearer duologue_admin_x"],
        ] {
            assert!(!tokens.accept(&headers(&wrong)), "{wrong:?}");
        }
        // The hash itself, which a copy of the configuration reveals, is not a token.
        assert!(!tokens.accept(&headers(&[&format!("Bearer {}", one.hash)])));
        assert!(!AdminTokens::default().accept(&headers(&[&bearer])));
    }

    #[test]
    fn showing_a_token_for_debugging_hides_it() {
        let made = NewAdminToken::random();
        assert!(!format!("{made:?}").contains(&made.token));
    }
}
