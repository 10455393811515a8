//! The sections `[server]` and `[agent]`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use jiff::fmt::serde::unsigned_duration::friendly::compact::required as duration;
use serde::{Deserialize, Deserializer, de::Error as _};

/// The listener, and what a connection may use before it is upgraded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// A host name or an address of this machine.
    pub host: String,
    /// Zero takes any free port.
    pub port: u16,
    /// How long running turns may continue after the signal to stop.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// How long a client may take to send the head of its request.
    #[serde(with = "duration")]
    pub header_read_timeout: Duration,
    /// The maximum size of the head of a request.
    pub header_bytes_max: u32,
    /// The maximum number of headers of a request.
    pub headers_max: u16,
    /// Connections open at a time.
    pub connections_max: u32,
    /// Whether core dumps, and access to the memory by programs of the same user, are allowed.
    pub core_dumps: bool,
    /// Origins of other sites whose pages may connect: `scheme://host[:port]`, in lower case and
    /// without a path, so that strings can be compared.
    pub origins_allowed: Vec<String>,
    /// Host names accepted in the `Host` header, besides those of loopback: in lower case and without
    /// a port. On loopback no others are accepted; on other addresses an empty list accepts all.
    pub hosts_allowed: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is used.
    #[serde(deserialize_with = "networks")]
    pub proxies_trusted: Vec<IpNet>,
}

/// The agent.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The agent's file; `None` for the built-in agent.
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
