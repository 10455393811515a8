//! Under which names the server may be asked.
//!
//! A page can point a name of its own at this machine and so reach, as one of its own origin, a
//! server that listens on loopback (DNS rebinding). What such a page cannot do is to send another
//! `Host` than its own name. So a server on loopback answers to the names of loopback only, and any
//! server to the names it was given, if it was given some.

use std::{collections::HashSet, net::IpAddr};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Uri, Version, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::{http::error::ApiError, server::App};

/// The names that requests may bear.
#[derive(Debug)]
pub(crate) struct Hosts {
    allowed: HashSet<String>,
    rule: Rule,
}

/// What passes besides the names of loopback and those in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Nothing: nobody but this machine, and its proxies, should be asking.
    Listed,
    /// Addresses, as orchestrators use them to ask for health: no page can bear another's.
    ListedOrAddress,
    /// Everything: the server is reached from outside, and nobody said under which names.
    Any,
}

/// Why a request was not let in by its name.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// There is not exactly one name, or it cannot be read.
    Malformed,
    /// The name is not one of ours.
    Foreign,
}

impl Hosts {
    /// Takes names and addresses without a port, in lower case, and where the server listens.
    pub(crate) fn new(allowed: &[String], listening: IpAddr) -> Self {
        let rule = if listening.to_canonical().is_loopback() {
            Rule::Listed
        } else if allowed.is_empty() {
            Rule::Any
        } else {
            Rule::ListedOrAddress
        };
        Self {
            allowed: allowed.iter().cloned().collect(),
            rule,
        }
    }

    /// Whether a request with these headers is let in.
    #[cfg(feature = "testing")]
    pub(crate) fn admits(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> bool {
        self.judge(version, uri, headers).is_ok()
    }

    fn judge(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut named = headers.get_all(header::HOST).iter();
        let host = match (named.next(), named.next()) {
            (Some(host), None) => host,
            // No browser speaks HTTP/1.0, so no page is behind this.
            (None, _) if version < Version::HTTP_11 && uri.authority().is_none() => return Ok(()),
            _ => return Err(Refusal::Malformed),
        };
        let host: Authority = host
            .to_str()
            .ok()
            .and_then(|host| host.parse().ok())
            .ok_or(Refusal::Malformed)?;
        let is_clean = !host.as_str().contains('@') && !host.host().is_empty();
        // Whoever names two servers wants two programs to disagree on who is meant.
        let agrees = uri.authority().is_none_or(|authority| *authority == host);
        if !is_clean || !agrees {
            return Err(Refusal::Malformed);
        }
        if self.knows(host.host()) {
            Ok(())
        } else {
            Err(Refusal::Foreign)
        }
    }

    fn knows(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        // Addresses of IPv6 stand in brackets.
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(&name);
        let address: Option<IpAddr> = bare.parse().ok();
        let is_loopback =
            name == "localhost" || address.is_some_and(|ip| ip.to_canonical().is_loopback());
        is_loopback
            || self.allowed.contains(bare)
            || match self.rule {
                Rule::Any => true,
                Rule::ListedOrAddress => address.is_some(),
                Rule::Listed => false,
            }
    }
}

/// Refuses requests for servers of other names, whatever they ask for.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    match app
        .hosts
        .judge(request.version(), request.uri(), request.headers())
    {
        Ok(()) => next.run(request).await,
        Err(Refusal::Malformed) => {
            let message = "a request must bear exactly one `Host`, and no other name beside it";
            ApiError::BadRequest(message.into()).into_response()
        }
        Err(Refusal::Foreign) => ApiError::HostNotAllowed.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn judge(hosts: &Hosts, uri: &str, named: &[&'static str]) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        for host in named {
            headers.append(header::HOST, HeaderValue::from_static(host));
        }
        hosts.judge(Version::HTTP_11, &uri.parse().unwrap(), &headers)
    }

    fn hosts(allowed: &[&str], listening: &str) -> Hosts {
        let allowed: Vec<String> = allowed.iter().map(|&name| name.into()).collect();
        Hosts::new(&allowed, listening.parse().unwrap())
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
                assert_eq!(judge(&hosts, "/", &[own]), Ok(()), "{own}");
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
                    judge(&hosts, "/", &[foreign]),
                    Err(Refusal::Foreign),
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
            assert_eq!(judge(&listed, "/", &[own]), Ok(()), "{own}");
        }
        assert_eq!(judge(&listed, "/", &["evil.test"]), Err(Refusal::Foreign));
        assert_eq!(judge(&hosts(&[], "::"), "/", &["any.test"]), Ok(()));
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
                judge(&any, "/", named),
                Err(Refusal::Malformed),
                "{named:?}"
            );
        }
        let absolute = "http://a.test/";
        assert_eq!(judge(&any, absolute, &["a.test"]), Ok(()));
        assert_eq!(judge(&any, absolute, &["b.test"]), Err(Refusal::Malformed));
        let old = any.judge(Version::HTTP_10, &Uri::from_static("/"), &HeaderMap::new());
        assert_eq!(old, Ok(()));
    }
}
