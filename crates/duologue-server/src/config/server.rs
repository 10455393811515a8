//! The sections `[server]` and `[agent]`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Deserializer, de::Error as _};

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
    /// Whether a crash may leave an image of the memory, and programs of the same user look into it.
    pub core_dumps: bool,
    /// Origins besides our own whose browsers may connect: `scheme://host[:port]`, in lower case
    /// and without a path, so that comparing strings is enough.
    pub origins_allowed: Vec<String>,
    /// Names under which the server may be asked, besides those of loopback: in lower case and
    /// without a port. On loopback no others pass; elsewhere an empty list admits all.
    pub hosts_allowed: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    #[serde(deserialize_with = "networks")]
    pub proxies_trusted: Vec<IpNet>,
}

/// The agent that answers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The agent's file, if it is not the built-in agent.
    #[serde(deserialize_with = "path_unless_empty")]
    pub file: Option<PathBuf>,
}

/// Reads `10.0.0.0/8` and the like; an address alone is a network of one.
fn networks<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |text: String| {
        let one = text.parse::<IpAddr>().map(|ip| ip.to_canonical().into());
        one.or_else(|_| text.parse()).map_err(|_| {
            D::Error::custom(format!(
                "`{text}` is neither an address nor a network such as \"10.0.0.0/8\""
            ))
        })
    };
    let texts = Vec::<String>::deserialize(from)?;
    texts.into_iter().map(network).collect()
}

fn path_unless_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(from)?;
    Ok((!path.as_os_str().is_empty()).then_some(path))
}
