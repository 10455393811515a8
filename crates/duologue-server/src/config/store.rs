//! The section `[store]`.

use std::{num::NonZero, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use secrecy::SecretString;
use serde::Deserialize;

/// Where sessions are kept.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// `sqlite:FILE` or `postgres://…`, which may hold a password.
    pub url: SecretString,
    /// The most connections to the database.
    pub connections_max: NonZero<u16>,
    /// How long an operation waits for a free connection.
    #[serde(with = "duration")]
    pub acquire_timeout: Duration,
    /// How long one statement may run.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// How long one statement waits for another's lock.
    #[serde(with = "duration")]
    pub lock_timeout: Duration,
    /// How long SQLite waits for another program that has the file locked.
    #[serde(with = "duration")]
    pub busy_timeout: Duration,
    /// SQLite writes that share one commit.
    pub batch_max: NonZero<u16>,
    /// SQLite writes that wait for the next commit.
    pub queue_max: NonZero<u16>,
}
