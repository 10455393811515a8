//! Whether other machines can connect while authentication is disabled.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Authentication, Config};

/// The first of the addresses at which other machines could connect without authentication, unless
/// the operator allows that.
pub(crate) fn exposed(config: &Config, addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let authentication = config.auth.authentication(&config.store.supabase_url);
    if config.auth.allow_anonymous || matches!(authentication, Authentication::ByToken(_)) {
        return None;
    }
    let mut addresses = addresses.iter().copied();
    addresses.find(|address| is_exposed(address.ip()))
}

/// Whether other machines can connect to the address.
pub(crate) fn is_exposed(ip: IpAddr) -> bool {
    !ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_exposed_unless_it_is_loopback() {
        for (ip, expected) in [
            ("127.0.0.1", false),
            ("127.8.9.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("192.168.1.7", true),
        ] {
            assert_eq!(is_exposed(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
