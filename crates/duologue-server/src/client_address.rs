//! The client's address of a request, for limits and logs.
//!
//! Behind a proxy every connection comes from the proxy, which adds the client's address to
//! `X-Forwarded-For`. Any client can send that header too, so only the entries of trusted proxies
//! count: the header is read from the right, where the nearest proxy added its entry, up to the first
//! address that is not a trusted proxy.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// The header to which each proxy adds the address that a request came from.
const FORWARDED: &str = "x-forwarded-for";

/// The client's address, as far as it can be known. Personal data: never sent to other users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientAddress(pub(crate) IpAddr);

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ClientAddress {
    /// The client's address, given the peer of the connection and the request's headers.
    pub(crate) fn of(peer: IpAddr, headers: &HeaderMap, proxies_trusted: &[IpNet]) -> Self {
        let is_trusted = |ip: IpAddr| proxies_trusted.iter().any(|net| net.contains(&ip));
        let mut nearest = peer.to_canonical();
        let entries = headers.get_all(FORWARDED).iter().rev();
        let entries = entries.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for entry in entries {
            if !is_trusted(nearest) {
                break;
            }
            // A trusted proxy writes no invalid entry; the proxy that passed it on is the last
            // address that is known.
            let Some(ip) = address(entry) else { break };
            nearest = ip;
        }
        Self(nearest)
    }
}

/// Reads an entry: an address, which some proxies write with its port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let with_port = || text.parse().map(|at: SocketAddr| at.ip());
    let ip: IpAddr = bracketed
        .unwrap_or(text)
        .parse()
        .or_else(|_| with_port())
        .ok()?;
    Some(ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn seen(peer: &str, lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED, HeaderValue::from_static(line));
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap());
        ClientAddress::of(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_client_cannot_say_where_it_is() {
        assert_eq!(seen("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(seen("203.0.113.9", &["10.0.0.1"]), "203.0.113.9");
        // The proxy adds what it sees to the right of what the client made up.
        assert_eq!(
            seen("10.0.0.1", &["198.51.100.1, 203.0.113.9"]),
            "203.0.113.9"
        );
        assert_eq!(
            seen("10.0.0.1", &["198.51.100.1", "203.0.113.9"]),
            "203.0.113.9"
        );
        assert_eq!(seen("10.0.0.1", &["10.9.9.9, 203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn a_chain_of_trusted_proxies_is_followed_to_its_end() {
        let chain = "198.51.100.1, 203.0.113.9, 10.0.0.3,10.0.0.2";
        assert_eq!(seen("10.0.0.1", &[chain]), "203.0.113.9");
        assert_eq!(seen("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(seen("::ffff:10.0.0.1", &["203.0.113.9"]), "203.0.113.9");
        assert_eq!(seen("fd00::1", &["2001:db8::7"]), "2001:db8::7");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them_and_nothing_else_is() {
        for (entry, expected) in [
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("[2001:db8::7]:443", "2001:db8::7"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("unknown", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("203.0.113.9 198.51.100.1", "10.0.0.1"),
            ("0x7f000001", "10.0.0.1"),
            ("203.0.113.9, nonsense", "10.0.0.1"),
        ] {
            assert_eq!(seen("10.0.0.1", &[entry]), expected, "{entry}");
        }
    }
}
