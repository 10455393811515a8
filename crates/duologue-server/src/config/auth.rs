//! The section `[auth]`: who users are, and how they prove it.

use std::{fmt, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// What Supabase's tokens of signed-in users are for.
const SUPABASE_AUDIENCE: &str = "authenticated";

/// Who users are, and how they prove it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether tokens are wanted, and where what they are checked by comes from.
    pub mode: AuthMode,
    /// Whether users may be taken on trust where other machines reach the server.
    pub allow_anonymous: bool,
    /// The secret that tokens of HS256 are signed with; or empty.
    pub jwt_secret: SecretString,
    /// Where the public keys of all other tokens are; or empty.
    pub jwks_url: String,
    /// The `iss` that tokens must have.
    pub issuer: String,
    /// The `aud` that tokens must have, alone or among others.
    pub audience: String,
    /// The algorithms that tokens may be signed by, each only with a key of its kind.
    pub algorithms: Vec<SigningAlgorithm>,
    /// How far the issuer's clock and ours may differ.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// Keys older than this are fetched again.
    #[serde(with = "duration")]
    pub jwks_max_age: Duration,
    /// Keys older than this are not used, whatever the reason that there are no newer ones.
    #[serde(with = "duration")]
    pub jwks_stale_max: Duration,
    /// The least time between two attempts to fetch keys.
    #[serde(with = "duration")]
    pub jwks_refetch_interval: Duration,
    /// How long fetching keys may take.
    #[serde(with = "duration")]
    pub jwks_timeout: Duration,
    /// How long a client that brought no token with its handshake may take to send one.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How many such clients may wait at a time.
    pub waiting_max: u16,
    /// How long before its token's end a client is told.
    #[serde(with = "duration")]
    pub expiry_notice: Duration,
    /// Whether tokens may come in the query, where logs of proxies may show them.
    pub query_token: bool,
    /// The hashes of operators' tokens, as `duologue admin-token` prints them.
    pub admin_tokens: Vec<String>,
}

/// How users prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// They do not: `user_id` is taken on trust.
    None,
    /// By a JWT that the settings of the section describe.
    Jwt,
    /// By a JWT of the Supabase project whose URL is set.
    Supabase,
}

/// An algorithm that we check signatures by.
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

/// What the settings come to.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// `user_id` is taken on trust.
    Disabled,
    /// Users bring tokens.
    ByToken(TokenRules),
}

/// What makes a token good.
#[derive(Clone, Debug)]
pub struct TokenRules {
    /// What tokens of HS256 are signed with.
    pub secret: Option<SecretString>,
    /// Where the keys of all others are.
    pub jwks_url: Option<String>,
    /// The `iss` that they must have.
    pub issuer: String,
    /// The `aud` that they must have, alone or among others.
    pub audience: String,
}

impl AuthConfig {
    /// What is asked of users. `supabase_url` is the project's, from `[store]`.
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
        write!(f, "tokens of {}, checked with {by}", rules.issuer)
    }
}
