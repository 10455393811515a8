//! The check of a token: signature, header and claims.

use jsonwebtoken::{
    Algorithm, Header, Validation, decode, decode_header,
    errors::{Error, ErrorKind},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio_util::task::TaskTracker;

use duologue_protocol::{Timestamp, UserId};

use crate::{
    auth::{
        error::AuthError,
        identity::Identity,
        jwks::Jwks,
        keys::{Key, KeyError},
    },
    config::{AuthConfig, SigningAlgorithm, TokenRules},
};

/// A longer token is refused unread.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The values of `typ`, in any case. A token without one is treated as a JWT.
const TYPES: [&str; 2] = ["jwt", "at+jwt"];

/// Checks tokens.
#[derive(Debug)]
pub(super) struct Verifier {
    secret: Option<Key>,
    jwks: Option<Jwks>,
    algorithms: Vec<Algorithm>,
    /// Without the algorithm, which the key determines.
    rules: Validation,
}

/// The claims that are read. A claim that occurs twice is refused; `iss` must be a string.
#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    exp: f64,
    #[serde(rename = "iss")]
    _iss: String,
}

impl Verifier {
    pub(super) fn new(
        rules: &TokenRules,
        config: &AuthConfig,
        tasks: TaskTracker,
    ) -> Result<Self, KeyError> {
        let jwks = rules.jwks_url.clone();
        let jwks = jwks.map(|url| Jwks::new(url, config, tasks)).transpose()?;
        let secret = rules.secret.as_ref();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = config.leeway.as_secs();
        validation.validate_nbf = true;
        validation.set_issuer(&[&rules.issuer]);
        validation.set_audience(&[&rules.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Ok(Self {
            secret: secret.map(|secret| Key::secret(secret.expose_secret().as_bytes())),
            jwks,
            algorithms: config.algorithms.iter().map(|one| (*one).into()).collect(),
            rules: validation,
        })
    }

    /// Checks a token, and returns its user and its expiry.
    pub(super) async fn verify(&self, token: &SecretString) -> Result<Identity, AuthError> {
        let token = token.expose_secret();
        let header = self.read_header(token)?;
        let algorithm = header.alg;
        match (&self.secret, &self.jwks) {
            (Some(key), _) if algorithm == Algorithm::HS256 => self.check(token, key),
            (_, Some(jwks)) if algorithm != Algorithm::HS256 => {
                let id = header.kid.as_deref();
                let keys = jwks.with_key(id, algorithm).await?;
                let key = keys.find(id, algorithm).ok_or(AuthError::Invalid)?;
                self.check(token, key)
            }
            _ => Err(refused("algorithm")),
        }
    }

    /// Checks everything that needs no key.
    fn read_header(&self, token: &str) -> Result<Header, AuthError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused("size"));
        }
        // An encrypted token has five parts, and an unsigned one an empty third.
        let parts: Vec<&str> = token.split('.').collect();
        if parts.len() != 3 || parts.iter().any(|part| part.is_empty()) {
            return Err(refused("form"));
        }
        let header = decode_header(token).map_err(|_| refused("header"))?;
        let r#type = header.typ.as_deref().unwrap_or("jwt");
        let is_jwt = TYPES.iter().any(|known| r#type.eq_ignore_ascii_case(known));
        // `crit` lists extensions that must be supported, and none is.
        let needs_extensions = header.crit.is_some()
            || header.enc.is_some()
            || header.zip.is_some()
            || header.extras.inner().contains_key("b64");
        if !is_jwt || needs_extensions {
            return Err(refused("header"));
        }
        if !self.algorithms.contains(&header.alg) {
            return Err(refused("algorithm"));
        }
        Ok(header)
    }

    /// Checks the signature and the claims with one key and its algorithm.
    fn check(&self, token: &str, key: &Key) -> Result<Identity, AuthError> {
        let rules = Validation {
            algorithms: vec![key.algorithm],
            ..self.rules.clone()
        };
        let claims =
            decode::<Claims>(token, &key.decoding, &rules).map_err(|error| refusal(&error))?;
        let Claims { sub, exp, .. } = claims.claims;
        Ok(Identity {
            user_id: UserId::new(&sub).map_err(|_| refused("sub"))?,
            expires_at: expiry(exp).ok_or_else(|| refused("exp"))?,
        })
    }
}

impl From<SigningAlgorithm> for Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::HS256 => Self::HS256,
            SigningAlgorithm::ES256 => Self::ES256,
            SigningAlgorithm::RS256 => Self::RS256,
            SigningAlgorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// The time of an `exp`; `None` if it is out of range.
fn expiry(exp: f64) -> Option<Timestamp> {
    let since_epoch = jiff::SignedDuration::try_from_secs_f64(exp).ok()?;
    Timestamp::from_duration(since_epoch).ok()
}

/// Logs the rule by which a token was refused, and nothing of the token.
fn refused(rule: &'static str) -> AuthError {
    tracing::info!(rule, "token.refused");
    AuthError::Invalid
}

fn refusal(error: &Error) -> AuthError {
    match error.kind() {
        // The signature is valid, so the client may learn the reason.
        ErrorKind::ExpiredSignature => {
            refused("exp");
            AuthError::Expired
        }
        ErrorKind::InvalidSignature => refused("signature"),
        ErrorKind::InvalidIssuer => refused("iss"),
        ErrorKind::InvalidAudience => refused("aud"),
        ErrorKind::ImmatureSignature => refused("nbf"),
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => refused("claims"),
        _ => refused("form"),
    }
}
