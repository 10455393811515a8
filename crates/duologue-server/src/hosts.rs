//! Host names accepted in the `Host` header.
//!
//! A page can point a host name of its own at this machine, and so reach a server on loopback as a
//! page of the same origin (DNS rebinding). Such a page cannot send another `Host` than its own name.
//! So a server on loopback accepts the names of loopback only, and any server accepts the names in
//! `server.hosts_allowed`, if there are some.

use std::{collections::HashSet, net::IpAddr};

use axum::http::{HeaderMap, Uri, Version, header, uri::Authority};

/// The host names that requests may have.
#[derive(Debug)]
pub(crate) struct AllowedHosts {
    allowed: HashSet<String>,
    others: OtherHosts,
}

/// Which host names are accepted besides those of loopback and those in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OtherHosts {
    /// None: only this machine, and its proxies, should connect.
    None,
    /// IP addresses, which orchestrators use for health checks. A page cannot have one as its name.
    Addresses,
    /// All: other machines connect, and the operator has listed no names.
    All,
}

/// Why a request is refused for its host name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HostError {
    /// There is not exactly one host name, or it cannot be read.
    Malformed,
    /// The host name is not accepted.
    NotAllowed,
}

impl AllowedHosts {
    /// `allowed` are names and addresses without a port, in lower case; `listening` is the server's
    /// own address.
    pub(crate) fn new(allowed: &[String], listening: IpAddr) -> Self {
        let others = if listening.to_canonical().is_loopback() {
            OtherHosts::None
        } else if allowed.is_empty() {
            OtherHosts::All
        } else {
            OtherHosts::Addresses
        };
        Self {
            allowed: allowed.iter().cloned().collect(),
            others,
        }
    }

    /// Whether a request with these headers is accepted.
    #[cfg(feature = "testing")]
    pub(crate) fn admits(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
        self.check(version, uri, headers).is_ok()
    }

    /// Checks the host name of a request.
    pub(crate) fn check(
        &self,
        version: Version,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), HostError> {
        let mut named = headers.get_all(header::HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => host,
            // Browsers do not use HTTP/1.0, so this is not a page.
            (None, _) if version < Version::HTTP_11 && uri.authority().is_none() => return Ok(()),
            _ => return Err(HostError::Malformed),
        };
        let host: Authority = host
            .to_str()
            .ok()
            .and_then(|host| host.parse().ok())
            .ok_or(HostError::Malformed)?;
        let is_clean = !host.as_str().contains('@') && !host.host().is_empty();
        // Two different names could make two programs disagree about the server.
        let agrees = uri.authority().is_none_or(|authority| *authority == host);
        if !is_clean || !agrees {
            return Err(HostError::Malformed);
        }
        if self.accepts(host.host()) {
            Ok(())
        } else {
            Err(HostError::NotAllowed)
        }
    }

    fn accepts(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        // IPv6 addresses are in brackets.
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(&name);
        let address: Option<IpAddr> = bare.parse().ok();
        let is_loopback =
            name == "localhost" || address.is_some_and(|ip| ip.to_canonical().is_loopback());
        is_loopback
            || self.allowed.contains(bare)
            || match self.others {
                OtherHosts::All => true,
                OtherHosts::Addresses => address.is_some(),
                OtherHosts::None => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(hosts: &AllowedHosts, uri: &str, named: &[&'static str]) -> Result<(), HostError> {
        let mut headers = HeaderMap::new();
        for host in named {
            headers.append(header::HOST, HeaderValue::from_static(host));
        }
        hosts.check(Version::HTTP_11, &uri.parse().unwrap(), &headers)
    }

    fn hosts(allowed: &[&str], listening: &str) -> AllowedHosts {
        let allowed: Vec<String> = allowed.iter().map(|&name| name.into()).collect();
        AllowedHosts::new(&allowed, listening.parse().unwrap())
    }

    #[test]
    fn on_loopback_only_its_own_names_and_those_in_the_list_pass() {
        for listening in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let hosts = hosts(&["chat.example.com"], listening);
            for own in [
                "localhost",
                "LOCALHOST:8000",
                "127.0.0.1:8000",
                "127.8.9.1",
                "[::1]:8000",
                "chat.example.com",
                "Chat.Example.com:443",
            ] {
                assert_eq!(check(&hosts, "/", &[own]), Ok(()), "{own}");
            }
            for foreign in [
                "evil.test",
                "evil.test:8000",
                "localhost.evil.test",
                "evil-localhost",
                "127.0.0.1.evil.test",
                "chat.example.com.evil.test",
                "evilchat.example.com",
                "192.168.1.7:8000",
                "0.0.0.0:8000",
                "2130706433",
                "0x7f.1",
            ] {
                assert_eq!(
                    check(&hosts, "/", &[foreign]),
                    Err(HostError::NotAllowed),
                    "{foreign}"
                );
            }
        }
    }

    #[test]
    fn elsewhere_a_list_admits_its_names_and_plain_addresses_and_no_list_admits_all() {
        let listed = hosts(&["chat.example.com"], "0.0.0.0");
        for own in [
            "chat.example.com",
            "10.1.2.3:8000",
            "[fd00::1]",
            "localhost",
        ] {
            assert_eq!(check(&listed, "/", &[own]), Ok(()), "{own}");
        }
        assert_eq!(
            check(&listed, "/", &["evil.test"]),
            Err(HostError::NotAllowed)
        );
        assert_eq!(check(&hosts(&[], "::"), "/", &["any.test"]), Ok(()));
    }

    #[test]
    fn a_request_names_exactly_one_server() {
        let any = hosts(&[], "0.0.0.0");
        for named in [
            &[][..],
            &["a.test", "a.test"],
            &["a.test", "b.test"],
            &[""],
            &["user@a.test"],
            &["a.test/path"],
            &["a.test, b.test"],
        ] {
            assert_eq!(
                check(&any, "/", named),
                Err(HostError::Malformed),
                "{named:?}"
            );
        }
        let absolute = "http://a.test/";
        assert_eq!(check(&any, absolute, &["a.test"]), Ok(()));
        assert_eq!(
            check(&any, absolute, &["b.test"]),
            Err(HostError::Malformed)
        );
        let old = any.check(Version::HTTP_10, &Uri::from_static("/"), &HeaderMap::new());
        assert_eq!(old, Ok(()));
    }
}
