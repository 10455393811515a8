//! The section `[auth]`: authentication of users.

use std::{fmt, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::redacted_url::redact_url;

/// The `aud` of Supabase's tokens for signed-in users.
const SUPABASE_AUDIENCE: &str = "authenticated";

/// Authentication of users.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether tokens are required, and where the keys to check them come from.
    pub mode: AuthMode,
    /// Whether authentication may be disabled on an address that other machines can connect to.
    pub allow_anonymous: bool,
    /// The secret that HS256 tokens are signed with; or empty.
    pub jwt_secret: SecretString,
    /// The URL of the public keys for all other tokens; or empty.
    pub jwks_url: String,
    /// The `iss` that tokens must have.
    pub issuer: String,
    /// The `aud` that tokens must have, alone or among others.
    pub audience: String,
    /// The algorithms that tokens may be signed with, each only with a key of its kind.
    pub algorithms: Vec<SigningAlgorithm>,
    /// How much the clocks of the issuer and the server may differ.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// Keys older than this are fetched again.
    #[serde(with = "duration")]
    pub jwks_max_age: Duration,
    /// Keys older than this are not used, even if no newer ones can be fetched.
    #[serde(with = "duration")]
    pub jwks_stale_max: Duration,
    /// The minimum time between two attempts to fetch keys.
    #[serde(with = "duration")]
    pub jwks_refetch_interval: Duration,
    /// How long fetching keys may take.
    #[serde(with = "duration")]
    pub jwks_timeout: Duration,
    /// How long a client without a token in its handshake may take to send one.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// The maximum number of such clients.
    pub waiting_max: u16,
    /// How long before the expiry of its token a client is notified.
    #[serde(with = "duration")]
    pub expiry_notice: Duration,
    /// Whether the query may contain tokens, where proxies may log them.
    pub query_token: bool,
    /// The hashes of operators' tokens, as `duologue admin-token` prints them.
    pub admin_tokens: Vec<String>,
}

/// How users are authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Not at all: the server accepts any `user_id`.
    None,
    /// By a JWT that this section describes.
    Jwt,
    /// By a JWT of the Supabase project whose URL is set.
    Supabase,
}

/// An algorithm of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SigningAlgorithm {
    /// With a shared secret.
    HS256,
    /// Elliptic curve P-256.
    ES256,
    /// RSA.
    RS256,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

/// The authentication that the settings result in.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// The server requires no token, and accepts any `user_id`.
    Disabled,
    /// Users send tokens.
    ByToken(TokenRules),
}

/// What a valid token has.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// The secret of HS256 tokens.
    pub secret: Option<SecretString>,
    /// The URL of the keys for all others.
    pub jwks_url: Option<String>,
    /// The `iss` that they must have.
    pub issuer: String,
    /// The `aud` that they must have, alone or among others.
    pub audience: String,
}

impl AuthConfig {
    /// The authentication that the settings result in. `supabase_url` is from `[store]`.
    pub fn authentication(&self, supabase_url: &str) -> Authentication {
        let secret = Some(&self.jwt_secret).filter(|secret| !secret.expose_secret().is_empty());
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let rules = match self.mode {
            AuthMode::None => return Authentication::Disabled,
            AuthMode::Jwt => TokenRules {
                secret: secret.cloned(),
                jwks_url: given(&self.jwks_url),
                issuer: self.issuer.clone(),
                audience: self.audience.clone(),
            },
            AuthMode::Supabase => {
                let issuer = format!("{}/auth/v1", supabase_url.trim_end_matches('/'));
                let jwks_url = format!("{issuer}/.well-known/jwks.json");
                let audience = || SUPABASE_AUDIENCE.to_owned();
                TokenRules {
                    secret: secret.cloned(),
                    jwks_url: given(&self.jwks_url).or(Some(jwks_url)),
                    issuer: given(&self.issuer).unwrap_or(issuer),
                    audience: given(&self.audience).unwrap_or_else(audience),
                }
            }
        };
        Authentication::ByToken(rules)
    }
}

/// For people, and without secrets.
impl fmt::Display for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = match self {
            Self::Disabled => return f.write_str("disabled: the server requires no token"),
            Self::ByToken(rules) => rules,
        };
        let by = match (&rules.secret, &rules.jwks_url) {
            (Some(_), Some(_)) => "its public keys or a shared secret",
            (Some(_), None) => "a shared secret",
            (None, _) => "its public keys",
        };
        let issuer = redact_url(&rules.issuer);
        write!(f, "tokens of {issuer}, checked with {by}")
    }
}
