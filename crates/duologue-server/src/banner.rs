//! What `duologue serve` prints when it is ready.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Everything that a person wants to know at the start. LeaseRegistry no secret; descriptions must not.
#[derive(Clone, Copy, Debug)]
pub struct Banner<'a> {
    /// Where the server really listens: the port is known by now.
    pub address: SocketAddr,
    /// What keeps the sessions, such as `SQLite, duologue.db`.
    pub store: &'a str,
    /// Who answers.
    pub model: &'a str,
    /// How it answers: the agent's name.
    pub agent: &'a str,
    /// How users prove who they are.
    pub auth: &'a str,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = env!("CARGO_PKG_VERSION");
        let place = visitable(self.address);
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
            "  Talk to it with `duologue chat {place}`; Ctrl-C stops it."
        )
    }
}

/// The address as it can be visited from here: "every interface" is no place to go to.
pub(crate) fn visitable(address: SocketAddr) -> SocketAddr {
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
    fn it_shows_places_that_can_be_visited() {
        let banner = |address: &str| {
            let banner = Banner {
                address: address.parse().unwrap(),
                store: "SQLite, duologue.db",
                model: "mock",
                agent: "concierge",
                auth: "none: users are who they say they are",
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
          Auth       none: users are who they say they are

          Talk to it with `duologue chat 127.0.0.1:8000`; Ctrl-C stops it.
        ");
        assert!(banner("[::]:9000").contains("http://[::1]:9000/demo/"));
    }
}
