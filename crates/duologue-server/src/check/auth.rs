//! Whether users' tokens can be checked, or need not be.

use super::{Row, chain, place_of};
use crate::{
    app::exposed,
    auth::fetch_keys,
    config::{AuthMode, Authentication, Config, Settings},
};

pub(super) async fn check(config: &Config, settings: &Settings) -> Row {
    let authentication = config.auth.authentication(&config.store.supabase_url);
    let found = authentication.to_string();
    let rules = match authentication {
        Authentication::OnTrust => return on_trust(config, settings, found).await,
        Authentication::ByToken(rules) => rules,
    };
    let Some(url) = rules.jwks_url else {
        return Row::works("auth", found);
    };
    let place = match config.auth.mode {
        AuthMode::Supabase if config.auth.jwks_url.is_empty() => {
            place_of("store.supabase_url", "SUPABASE_URL", settings)
        }
        _ => place_of("auth.jwks_url", "DUOLOGUE_AUTH__JWKS_URL", settings),
    };
    match fetch_keys(&url, config.auth.jwks_timeout).await {
        Ok(keys) if keys.algorithms().is_empty() && rules.secret.is_none() => Row::fails(
            "auth",
            format!("{found}: {url} has no key that can be used"),
        )
        .advise(format!(
            "correct {place}; a Supabase project that still uses its legacy JWT secret needs \
                 SUPABASE_JWT_SECRET"
        )),
        Ok(keys) => {
            let keys = match keys.algorithms().as_slice() {
                [] => "no key but the secret".to_owned(),
                algorithms => format!("keys for {}", algorithms.join(", ")),
            };
            Row::works("auth", format!("{found}: {keys}"))
        }
        Err(error) => Row::fails("auth", format!("{found}: {url}: {}", chain(&error))).advise(
            format!("correct {place}, or let this machine reach the issuer"),
        ),
    }
}

/// Nothing is to be tried; but such a server starts on this machine only.
async fn on_trust(config: &Config, settings: &Settings, found: String) -> Row {
    let (host, port) = (config.server.host.as_str(), config.server.port);
    let addresses: Vec<_> = match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let host = place_of("server.host", "HOST", settings);
            return Row::fails("auth", format!("{found}: no address to listen on: {error}"))
                .advise(format!("correct {host}"));
        }
    };
    match exposed(config, &addresses) {
        None => Row::works("auth", found),
        Some(address) => Row::fails(
            "auth",
            format!("{found}, and {address} is reached by other machines"),
        )
        .advise(
            "set DUOLOGUE_AUTH__MODE to jwt or supabase, or HOST to 127.0.0.1; \
             DUOLOGUE_AUTH__ALLOW_ANONYMOUS=true is for private networks",
        ),
    }
}
