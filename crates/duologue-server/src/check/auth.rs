//! Authentication: whether users' tokens can be checked.

use crate::{
    auth::fetch_keys,
    check::report::{Row, where_to_fix},
    config::{AuthMode, Authentication, Config, Settings},
    error_chain::error_chain,
    exposure::exposed,
    redacted_url::redact_url,
};

pub(super) async fn check(config: &Config, settings: &Settings) -> Row {
    let authentication = config.auth.authentication(&config.store.supabase_url);
    let found = authentication.to_string();
    let rules = match authentication {
        Authentication::Disabled => return disabled(config, settings, found).await,
        Authentication::ByToken(rules) => rules,
    };
    let Some(url) = rules.jwks_url else {
        return Row::works("auth", found);
    };
    let shown_url = redact_url(&url);
    let place = match config.auth.mode {
        AuthMode::Supabase if config.auth.jwks_url.is_empty() => {
            where_to_fix("store.supabase_url", "SUPABASE_URL", settings)
        }
        _ => where_to_fix("auth.jwks_url", "DUOLOGUE_AUTH__JWKS_URL", settings),
    };
    match fetch_keys(&url, config.auth.jwks_timeout).await {
        Ok(keys) if keys.algorithms().is_empty() && rules.secret.is_none() => {
            Row::fails("auth", format!("{found}: {shown_url} has no usable key")).advise(format!(
                "correct {place}; a Supabase project that still uses its legacy JWT secret needs \
                 SUPABASE_JWT_SECRET"
            ))
        }
        Ok(keys) => {
            let keys = match keys.algorithms().as_slice() {
                [] => "no public key, only the secret".to_owned(),
                algorithms => format!("keys for {}", algorithms.join(", ")),
            };
            Row::works("auth", format!("{found}: {keys}"))
        }
        Err(error) => Row::fails(
            "auth",
            format!("{found}: {shown_url}: {}", error_chain(&error)),
        )
        .advise(format!(
            "correct {place}, or allow this machine to connect to the issuer"
        )),
    }
}

/// Without authentication there is nothing to test, but such a server starts on loopback only.
async fn disabled(config: &Config, settings: &Settings, found: String) -> Row {
    let (host, port) = (config.server.host.as_str(), config.server.port);
    let addresses: Vec<_> = match tokio::net::lookup_host((host, port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let host = where_to_fix("server.host", "HOST", settings);
            return Row::fails("auth", format!("{found}: no address to listen on: {error}"))
                .advise(format!("correct {host}"));
        }
    };
    match exposed(config, &addresses) {
        None => Row::works("auth", found),
        Some(address) => Row::fails(
            "auth",
            format!("{found}, and other machines can connect to {address}"),
        )
        .advise(
            "set DUOLOGUE_AUTH__MODE to jwt or supabase, or HOST to 127.0.0.1; \
             DUOLOGUE_AUTH__ALLOW_ANONYMOUS=true is for private networks",
        ),
    }
}
