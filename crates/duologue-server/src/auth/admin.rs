//! Operators' tokens: random, kept as hashes, compared in constant time.

use std::fmt;

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest, rand};
use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::ExposeSecret;

use crate::auth::presented::bearer;

/// Tells the token of an operator from a user's, for those who find one in the wrong place.
const TOKEN_PREFIX: &str = "duologue_admin_";
const TOKEN_BYTES: usize = 32;

const HASH_PREFIX: &str = "sha256:";
const HASH_BYTES: usize = 32;

/// The hashes of the tokens that are good. A plain hash is enough: the tokens are random, so there
/// is nothing to guess.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdminTokens {
    hashes: Vec<[u8; HASH_BYTES]>,
}

/// A token just made, and the hash by which a server knows it. The token is shown once.
pub struct NewAdminToken {
    /// For the operator.
    pub token: String,
    /// For `auth.admin_tokens`.
    pub hash: String,
}

impl AdminTokens {
    /// Reads `sha256:…`, 64 hexadecimal digits each. `None`: something else is among them.
    pub(crate) fn read(hashes: &[String]) -> Option<Self> {
        let hashes: Option<_> = hashes.iter().map(|text| hash_of(text)).collect();
        hashes.map(|hashes| Self { hashes })
    }

    /// Whether there are any. Without, nobody is an operator.
    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether the request brings one of them. It takes as long whichever it is, if any.
    pub(crate) fn admit(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return false;
        };
        let Some(token) = value.to_str().ok().and_then(bearer) else {
            return false;
        };
        let given = digest::digest(&digest::SHA256, token.expose_secret().as_bytes());
        let is_it = |hash: &[u8; HASH_BYTES]| verify_slices_are_equal(hash, given.as_ref()).is_ok();
        self.hashes
            .iter()
            .fold(false, |found, hash| is_it(hash) | found)
    }
}

impl NewAdminToken {
    /// Makes one.
    pub fn random() -> Self {
        let mut bytes = [0; TOKEN_BYTES];
        rand::fill(&mut bytes).expect("the system has random bytes");
        let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let number = hash.as_ref().iter();
        let hash = number.fold(HASH_PREFIX.to_owned(), |text, byte| {
            text + &format!("{byte:02x}")
        });
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

fn hash_of(text: &str) -> Option<[u8; HASH_BYTES]> {
    let digits = text.strip_prefix(HASH_PREFIX)?;
    if digits.len() != 2 * HASH_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut hash = [0; HASH_BYTES];
    for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
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
    fn a_new_token_is_known_by_its_hash_and_by_nothing_else() {
        let (one, other) = (NewAdminToken::random(), NewAdminToken::random());
        assert_ne!(one.token, other.token);
        let tokens = AdminTokens::read(&[other.hash.clone(), one.hash.clone()]).unwrap();
        let bearer = format!("Bearer {}", one.token);
        assert!(tokens.admit(&headers(&[&bearer])));
        for wrong in [
            vec![],
            vec!["Bearer"],
            vec!["Bearer "],
            vec![one.token.as_str()],
            vec![&bearer, &bearer],
            vec!["Bearer duologue_admin_x"],
        ] {
            assert!(!tokens.admit(&headers(&wrong)), "{wrong:?}");
        }
        // What a thief of the configuration has.
        assert!(!tokens.admit(&headers(&[&format!("Bearer {}", one.hash)])));
        assert!(!AdminTokens::default().admit(&headers(&[&bearer])));
    }

    #[test]
    fn showing_a_token_for_debugging_hides_it() {
        let made = NewAdminToken::random();
        assert!(!format!("{made:?}").contains(&made.token));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let zeros = "0".repeat(64);
        assert!(AdminTokens::read(&[format!("sha256:{zeros}")]).is_some());
        for wrong in [
            zeros.clone(),
            format!("sha256:{zeros}0"),
            format!("sha256:+{}", "0".repeat(63)),
            format!("sha256:{}é", "0".repeat(62)),
            "sha256:".to_owned(),
            "a token by mistake".to_owned(),
        ] {
            assert!(
                AdminTokens::read(std::slice::from_ref(&wrong)).is_none(),
                "{wrong}"
            );
        }
    }
}
