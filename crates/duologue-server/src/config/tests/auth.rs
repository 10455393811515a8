//! The section `[auth]`: what it comes to, and what it refuses.

use super::*;
use crate::config::Authentication;

const SECRET: &str = "canary-canary-canary-canary-canary";

const MODE_JWT: (&str, &str) = ("DUOLOGUE_AUTH__MODE", "jwt");
const MODE_SUPABASE: (&str, &str) = ("DUOLOGUE_AUTH__MODE", "supabase");
const ISSUER: (&str, &str) = ("DUOLOGUE_AUTH__ISSUER", "https://id.example");
const AUDIENCE: (&str, &str) = ("DUOLOGUE_AUTH__AUDIENCE", "chat");
const JWKS: &str = "DUOLOGUE_AUTH__JWKS_URL";

fn authentication(process: Pairs<'_>) -> Authentication {
    let config = load_variables(process).unwrap().config;
    config.auth.authentication(&config.store.supabase_url)
}

/// Also with a slash at its end, and with sessions kept elsewhere than in the project.
#[test]
fn the_url_of_a_supabase_project_says_everything_about_its_tokens() {
    for url in ["https://abc.supabase.co", "https://abc.supabase.co/"] {
        let Authentication::ByToken(rules) =
            authentication(&[MODE_SUPABASE, ("SUPABASE_URL", url)])
        else {
            panic!("authentication is disabled");
        };
        assert_eq!(rules.issuer, "https://abc.supabase.co/auth/v1");
        assert_eq!(rules.audience, "authenticated");
        let jwks = "https://abc.supabase.co/auth/v1/.well-known/jwks.json";
        assert_eq!(rules.jwks_url.as_deref(), Some(jwks));
        assert!(rules.secret.is_none());
    }
}

#[test]
fn what_tokens_cannot_be_checked_by_is_refused_with_what_is_missing() {
    let supabase_url = ("SUPABASE_URL", "https://abc.supabase.co");
    let secret = ("SUPABASE_JWT_SECRET", SECRET);
    let algorithms = |names| ("DUOLOGUE_AUTH__ALGORITHMS", names);
    let jwks = |url| [MODE_JWT, ISSUER, AUDIENCE, (JWKS, url)];
    let short = ("SUPABASE_JWT_SECRET", "canary");
    let cases: [(Pairs<'_>, &str); 13] = [
        (&[MODE_SUPABASE], "set SUPABASE_URL"),
        (
            &[MODE_SUPABASE, ("SUPABASE_URL", "http://abc.supabase.co")],
            "must begin with `https://`",
        ),
        (&[MODE_JWT, ISSUER, AUDIENCE], "set `auth.jwks_url`"),
        (&[MODE_JWT, secret, AUDIENCE], "needs `auth.issuer`"),
        (&[MODE_JWT, secret, ISSUER], "needs `auth.audience`"),
        (&[MODE_JWT, ISSUER, AUDIENCE, short], "at least 32 bytes"),
        (
            &jwks("http://id.example/jwks"),
            "must begin with `https://`",
        ),
        (
            &jwks("http://localhost.evil.test/jwks"),
            "must begin with `https://`",
        ),
        (
            &[MODE_JWT, ISSUER, AUDIENCE, secret, algorithms("ES256")],
            "must have HS256",
        ),
        (
            &[MODE_SUPABASE, supabase_url, algorithms("HS256")],
            "must have ES256",
        ),
        (&[("DUOLOGUE_AUTH__LEEWAY", "3m")], "at most two minutes"),
        (
            &[("DUOLOGUE_AUTH__JWKS_MAX_AGE", "1h")],
            "must be at most `auth.jwks_stale_max`",
        ),
        (
            &[("DUOLOGUE_AUTH__ADMIN_TOKENS", "canary")],
            "must list hashes",
        ),
    ];
    for (process, words) in cases {
        let error = wrong_variables(process);
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

#[test]
fn every_way_to_check_tokens_is_accepted_and_described_without_secrets() {
    let supabase_url = ("SUPABASE_URL", "https://abc.supabase.co");
    let secret = ("SUPABASE_JWT_SECRET", SECRET);
    for process in [
        &[MODE_JWT, ISSUER, AUDIENCE, secret] as Pairs<'_>,
        &[
            MODE_JWT,
            ISSUER,
            AUDIENCE,
            (JWKS, "https://id.example/jwks"),
        ],
        &[MODE_JWT, ISSUER, AUDIENCE, (JWKS, "http://[::1]:9/jwks")],
        &[MODE_SUPABASE, supabase_url, secret],
    ] {
        let authentication = authentication(process);
        assert!(matches!(authentication, Authentication::ByToken(_)));
        assert!(!authentication.to_string().contains("canary"));
    }
}

#[test]
fn an_algorithm_that_is_not_known_is_refused() {
    for wrong in ["none", "HS512", "ES384"] {
        let error = wrong_variables(&[("DUOLOGUE_AUTH__ALGORITHMS", wrong)]);
        assert!(error.contains("DUOLOGUE_AUTH__ALGORITHMS"), "{error}");
    }
}

#[test]
fn a_secret_that_nothing_uses_is_warned_of() {
    let loaded = load_variables(&[("SUPABASE_JWT_SECRET", SECRET)]).unwrap();
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(
        warning.contains("SUPABASE_JWT_SECRET") && !warning.contains("canary"),
        "{warning}"
    );
}
