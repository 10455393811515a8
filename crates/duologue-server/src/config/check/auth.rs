//! Checks of the section `[auth]`.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use crate::config::{
    admin_token_hash::AdminTokenHash,
    auth::{AuthConfig, AuthMode, Authentication, SigningAlgorithm},
    sections::Config,
    settings::Settings,
    url::is_safe_url,
};

/// RFC 7518 requires at least as many bytes as the hash has; a shorter secret could be guessed.
const SECRET_BYTES_MIN: usize = 32;

/// With more, tokens would be valid long after their expiry.
const LEEWAY_MAX: Duration = Duration::from_mins(2);

/// All problems of the section.
pub(super) fn all(config: &Config, settings: &Settings) -> Vec<String> {
    let mut problems = tokens(config, settings);
    let auth = &config.auth;
    if auth.leeway > LEEWAY_MAX {
        let leeway = settings.cite("auth.leeway");
        problems.push(format!("{leeway} must be at most two minutes"));
    }
    if auth.jwks_max_age > auth.jwks_stale_max {
        let (one, other) = ("auth.jwks_max_age", "auth.jwks_stale_max");
        problems.push(settings.must_be("at most", one, other));
    }
    if AdminTokenHash::read_all(&auth.admin_tokens).is_none() {
        let admin_tokens = settings.cite("auth.admin_tokens");
        problems.push(format!(
            "{admin_tokens} must list hashes, each `sha256:` and 64 hexadecimal digits; \
             `duologue admin-token` makes a token and prints its hash"
        ));
    }
    problems
}

/// The settings of tokens.
fn tokens(config: &Config, settings: &Settings) -> Vec<String> {
    let auth = &config.auth;
    let Authentication::ByToken(rules) = auth.authentication(&config.store.supabase_url) else {
        return Vec::new();
    };
    let mode = settings.cite("auth.mode");
    let mut problems = Vec::new();
    match auth.mode {
        AuthMode::Supabase if config.store.supabase_url.is_empty() => {
            return vec![format!(
                "{mode} needs the project's URL, and `store.supabase_url` is empty; set SUPABASE_URL"
            )];
        }
        AuthMode::Jwt if rules.secret.is_none() && rules.jwks_url.is_none() => {
            problems.push(format!(
                "{mode} needs keys to check tokens; set `auth.jwks_url` to the URL of the issuer's \
                 public keys, or `auth.jwt_secret` (SUPABASE_JWT_SECRET) to a shared secret"
            ));
        }
        AuthMode::None | AuthMode::Jwt | AuthMode::Supabase => {}
    }
    for (key, value) in [
        ("auth.issuer", &rules.issuer),
        ("auth.audience", &rules.audience),
    ] {
        if value.is_empty() {
            problems.push(format!("{mode} needs `{key}`, which is empty"));
        }
    }
    if let Some(secret) = &rules.secret {
        problems.extend(secret_problems(auth, secret, settings));
    }
    if let Some(url) = &rules.jwks_url {
        problems.extend(jwks_problems(auth, url, settings));
    }
    problems
}

/// The settings of a shared secret.
fn secret_problems(auth: &AuthConfig, secret: &SecretString, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    if secret.expose_secret().len() < SECRET_BYTES_MIN {
        let secret = settings.cite("auth.jwt_secret");
        problems.push(format!("{secret} must have at least 32 bytes"));
    }
    if !auth.algorithms.contains(&SigningAlgorithm::HS256) {
        let algorithms = settings.cite("auth.algorithms");
        problems.push(format!(
            "{algorithms} must have HS256 for `auth.jwt_secret`"
        ));
    }
    problems
}

/// The settings of public keys.
fn jwks_problems(auth: &AuthConfig, url: &str, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    if !is_safe_url(url) {
        let cited = match auth.mode {
            AuthMode::Supabase if auth.jwks_url.is_empty() => "store.supabase_url",
            AuthMode::None | AuthMode::Jwt | AuthMode::Supabase => "auth.jwks_url",
        };
        problems.push(format!(
            "{} must begin with `https://`, unless the keys are fetched from this machine",
            settings.cite(cited)
        ));
    }
    let is_public = |algorithm: &SigningAlgorithm| *algorithm != SigningAlgorithm::HS256;
    if !auth.algorithms.iter().any(is_public) {
        let algorithms = settings.cite("auth.algorithms");
        problems.push(format!(
            "{algorithms} must have ES256, RS256 or EdDSA for the issuer's public keys"
        ));
    }
    problems
}
