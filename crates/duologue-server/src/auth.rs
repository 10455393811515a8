//! Authentication: which credentials a request carries, and which user they prove.
//!
//! ```text
//! request ──▶ Credentials ──▶ Verifier ──▶ Caller
//!             (one token)     (keys, rules)  (user id, expiry)
//! ```
//!
//! A token is checked before the store is queried, by at most one signature, with a key and an
//! algorithm that the server chooses. Neither a token nor its claims are ever logged.
//!
//! Not here: what a user may read. The store's methods decide that by the user id they are given.

mod admin_tokens;
mod authenticator;
mod credentials;
mod error;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod identity;
mod jwks;
mod keys;
mod token;

pub use crate::auth::admin_tokens::NewAdminToken;
pub(crate) use crate::auth::{
    authenticator::Authenticator,
    credentials::Credentials,
    error::AuthError,
    identity::{Caller, Identity},
    jwks::fetch_keys,
    keys::KeyError,
};
