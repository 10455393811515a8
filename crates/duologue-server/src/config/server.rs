//! The sections `[server]` and `[agent]`.

use std::{path::PathBuf, time::Duration};

use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Deserializer};

/// The listener, and what a connection may use before it is upgraded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// A name or an address of this machine.
    pub host: String,
    /// Zero takes any free port.
    pub port: u16,
    /// How long running turns may go on after the signal to stop.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// How long a client may take to send its request's head.
    #[serde(with = "duration")]
    pub header_read_timeout: Duration,
    /// The largest head of a request.
    pub header_bytes_max: u32,
    /// The most headers of a request.
    pub headers_max: u16,
    /// Connections open at a time.
    pub connections_max: u32,
    /// Origins besides our own whose browsers may connect: `scheme://host[:port]`, in lower case
    /// and without a path, so that comparing strings is enough.
    pub origins_allowed: Vec<String>,
}

/// The agent that answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The agent's file, if it is not the built-in agent.
    #[serde(deserialize_with = "path_unless_empty")]
    pub file: Option<PathBuf>,
}

fn path_unless_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(from)?;
    Ok((!path.as_os_str().is_empty()).then_some(path))
}
