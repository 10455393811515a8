//! Keys, each with its only algorithm.
//!
//! The key determines the algorithm: a public key is never used as a secret, even if the header of a
//! token says so.

use std::fmt;

use duologue_engine::BoxError;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde_json::Value;

/// The maximum number of keys of an issuer; more than it has during a rotation. Each costs memory.
const KEYS_MAX: usize = 64;

/// Why an issuer's keys cannot be used. For operators: clients receive `auth_unavailable`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// The HTTP client cannot be created.
    #[error("the HTTP client cannot be created")]
    Client(#[source] reqwest::Error),
    /// No response, none in time, or an error status.
    #[error("the issuer's keys cannot be fetched")]
    Unreachable(#[source] BoxError),
    /// The response is not a JWKS, or is too large.
    #[error("the issuer returned an invalid JWKS")]
    Unreadable(#[source] BoxError),
}

/// A key that checks signatures.
pub(crate) struct Key {
    id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// The usable keys of an issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({:?})", self.algorithm, self.id)
    }
}

impl Key {
    pub(super) fn secret(secret: &[u8]) -> Self {
        Self {
            id: None,
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(secret),
        }
    }

    /// `None` if the key has another purpose or an unsupported algorithm. A symmetric key in a JWKS is
    /// public, so it is not used.
    fn public(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Algorithm::EdDSA
            }
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            _ => return None,
        };
        let common = &jwk.common;
        let is_for_signing = matches!(common.public_key_use, None | Some(PublicKeyUse::Signature));
        let named = common.key_algorithm.map(|named| named.to_string());
        let is_for_this = named.is_none_or(|named| named == format!("{algorithm:?}"));
        if !is_for_signing || !is_for_this {
            return None;
        }
        Some(Self {
            id: common.key_id.clone(),
            algorithm,
            decoding: DecodingKey::from_jwk(jwk).ok()?,
        })
    }
}

impl KeySet {
    /// Reads a JWKS. Unsupported keys are skipped.
    pub(super) fn read(json: &[u8]) -> Result<Self, KeyError> {
        let unreadable = |error: serde_json::Error| KeyError::Unreadable(error.into());
        let set: Value = serde_json::from_slice(json).map_err(unreadable)?;
        let Some(keys) = set.get("keys").and_then(Value::as_array) else {
            return Err(KeyError::Unreadable("there is no list `keys`".into()));
        };
        let keys = keys.iter().take(KEYS_MAX);
        let keys = keys.filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        Ok(Self {
            keys: keys.filter_map(|jwk| Key::public(&jwk)).collect(),
        })
    }

    /// The key to check a token with. A token without a key id is accepted only if there is exactly one
    /// key: trying all would cost one check for each.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self.keys.iter().filter(|key| {
            key.algorithm == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id))
        });
        let key = fitting.next()?;
        fitting.next().is_none().then_some(key)
    }

    /// The algorithms of the keys, for people.
    pub(crate) fn algorithms(&self) -> Vec<String> {
        let names = self.keys.iter().map(|key| format!("{:?}", key.algorithm));
        names.collect()
    }
}
