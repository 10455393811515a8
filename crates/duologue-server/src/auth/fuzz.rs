//! Fuzzing of the token check.

use std::sync::LazyLock;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::FutureExt;
use secrecy::SecretString;
use serde_json::Value;
use tokio_util::task::TaskTracker;

use crate::{
    auth::{error::AuthError, identity::Identity, token::Verifier},
    config::{self, TokenRules},
};

const SECRET: &str = "a secret that nothing but fuzzing knows";

/// Accepts tokens of the secret above, from one issuer, for one audience.
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let loaded = config::load_text("").expect("the defaults are right");
    let rules = TokenRules {
        secret: Some(SECRET.into()),
        jwks_url: None,
        issuer: "https://issuer.example.com".to_owned(),
        audience: "duologue".to_owned(),
    };
    Verifier::new(&rules, &loaded.config.auth, TaskTracker::new()).expect("the secret is a key")
});

/// Checks the bytes as a token, which can never be valid; then as the header and, after the first line,
/// the claims of a token with a valid signature.
pub fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(
        check(&text.as_ref().into()).is_err(),
        "a signature was guessed"
    );
    let (header, claims) = text.split_once('\n').unwrap_or(("{}", &text));
    if let Ok(identity) = check(&sign(header, claims)) {
        let claims: Value = serde_json::from_str(claims).expect("good claims are JSON");
        assert_eq!(claims["sub"], identity.user_id.as_str(), "another user");
        assert_eq!(claims["iss"], "https://issuer.example.com");
        let header: Value = serde_json::from_str(header).expect("a good header is JSON");
        assert_eq!(header["alg"], "HS256", "another algorithm");
    }
}

fn check(token: &SecretString) -> Result<Identity, AuthError> {
    let checked = VERIFIER.verify(token).now_or_never();
    checked.expect("a secret is at hand, and nothing is waited for")
}

fn sign(header: &str, claims: &str) -> SecretString {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(header), part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
    format!("{signed}.{signature}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the target would never test the claims of a valid token.
    #[test]
    fn a_token_with_a_valid_signature_and_valid_claims_is_accepted() {
        let claims = r#"{"iss":"https://issuer.example.com","aud":"duologue","sub":"user-1","exp":4102444800}"#;
        let identity = check(&sign(r#"{"alg":"HS256"}"#, claims)).expect("a good token");
        assert_eq!(identity.user_id.as_str(), "user-1");
    }
}
