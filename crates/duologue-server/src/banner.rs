//! What `duologue serve` prints when it is ready.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// What an operator needs to know at the start. The descriptions contain no secrets.
#[derive(Clone, Copy, Debug)]
pub struct Banner<'a> {
    /// The address that the server listens on, with the port that the system chose.
    pub address: SocketAddr,
    /// The store, such as `SQLite, duologue.db`.
    pub store: &'a str,
    /// The model.
    pub model: &'a str,
    /// The agent.
    pub agent: &'a str,
    /// How users are authenticated.
    pub auth: &'a str,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        let place = connectable(self.address);
        writeln!(f, "Duologue {version} is listening on {}", self.address)?;
        writeln!(f)?;
        writeln!(f, "  API        http://{place}")?;
        writeln!(f, "  Demo       http://{place}/demo/")?;
        writeln!(f, "  WebSocket  ws://{place}/ws/session/{{session_id}}")?;
        writeln!(f, "  Store      {}", self.store)?;
        writeln!(f, "  Model      {}", self.model)?;
        writeln!(f, "  Agent      {}", self.agent)?;
        writeln!(f, "  Auth       {}", self.auth)?;
        writeln!(f)?;
        writeln!(
            f,
            "  Chat with it by `duologue chat {place}`. Stop it with Ctrl-C."
        )
    }
}

/// The address that clients on this machine can connect to: loopback if it is every interface.
pub(crate) fn connectable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_addresses_that_can_be_connected_to() {
        let banner = |address: &str| {
            let banner = Banner {
                address: address.parse().unwrap(),
                store: "SQLite, duologue.db",
                model: "mock",
                agent: "concierge",
                auth: "disabled: the server requires no token",
            };
            banner
                .to_string()
                .replace(env!("CARGO_PKG_VERSION"), "0.0.0")
        };
        insta::assert_snapshot!(banner("0.0.0.0:8000"), @r"
        Duologue 0.0.0 is listening on 0.0.0.0:8000

          API        http://127.0.0.1:8000
          Demo       http://127.0.0.1:8000/demo/
          WebSocket  ws://127.0.0.1:8000/ws/session/{session_id}
          Store      SQLite, duologue.db
          Model      mock
          Agent      concierge
          Auth       disabled: the server requires no token

          Chat with it by `duologue chat 127.0.0.1:8000`. Stop it with Ctrl-C.
        ");
        assert!(banner("[::]:9000").contains("http://[::1]:9000/demo/"));
    }
}
