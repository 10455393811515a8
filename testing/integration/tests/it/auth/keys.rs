//! The issuer's keys: found by a project's URL, changed, away, and asked for in vain.

use duologue_integration::{
    TestServer,
    issuer::{Issuer, Keys, SigningKey},
};

use super::{by_keys, get};

const PATH: &str = "/v1/sessions/s";

#[tokio::test]
async fn a_supabase_project_needs_nothing_but_its_url() {
    let key = SigningKey::es256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let server = TestServer::builder()
        .set("DUOLOGUE_AUTH__MODE", "supabase")
        .set("SUPABASE_URL", &issuer.url())
        .start()
        .await;
    let good = key.sign(&issuer.claims("user-1"));
    assert_eq!(get(&server, PATH, Some(&good)).await.0, 404);
    let mut claims = issuer.claims("user-1");
    claims["aud"] = "anon".into();
    assert_eq!(get(&server, PATH, Some(&key.sign(&claims))).await.0, 401);
    server.stop().await;
}

/// The first token of a new key has the keys fetched, and the old key is good no more.
#[tokio::test]
async fn new_keys_are_found_when_the_first_token_names_one() {
    let (old, new) = (SigningKey::es256("old"), SigningKey::es256("new"));
    let issuer = Issuer::start(&[&old]).await;
    let server = by_keys(&issuer)
        .set("DUOLOGUE_AUTH__JWKS_REFETCH_INTERVAL", "1ms")
        .start()
        .await;
    let by_old = old.sign(&issuer.claims("user-1"));
    assert_eq!(get(&server, PATH, Some(&by_old)).await.0, 404);
    assert_eq!(get(&server, PATH, Some(&by_old)).await.0, 404);
    assert_eq!(issuer.fetches(), 1, "they are kept");
    issuer.show(&[&new]);
    let by_new = new.sign(&issuer.claims("user-1"));
    assert_eq!(get(&server, PATH, Some(&by_new)).await.0, 404);
    assert_eq!(issuer.fetches(), 2);
    assert_eq!(get(&server, PATH, Some(&by_old)).await.0, 401);
    server.stop().await;
}

/// A caller that invents keys costs the issuer one request per interval, and nobody else anything.
#[tokio::test]
async fn a_flood_of_invented_keys_reaches_the_issuer_once() {
    let key = SigningKey::es256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let server = by_keys(&issuer).start().await;
    let good = key.sign(&issuer.claims("user-1"));
    let invented = |number: usize| {
        let key = SigningKey::es256(&format!("invented-{number}"));
        key.sign(&issuer.claims("user-1"))
    };
    let tokens: Vec<_> = (0..40).map(invented).collect();
    let requests = tokens.iter().map(|token| get(&server, PATH, Some(token)));
    for (status, _) in futures_util::future::join_all(requests).await {
        assert_eq!(status, 401);
    }
    assert_eq!(issuer.fetches(), 1);
    assert_eq!(get(&server, PATH, Some(&good)).await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn while_the_issuer_is_away_known_keys_are_good_and_others_wait() {
    let key = SigningKey::es256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let server = by_keys(&issuer)
        .set("DUOLOGUE_AUTH__JWKS_MAX_AGE", "1ms")
        .set("DUOLOGUE_AUTH__JWKS_REFETCH_INTERVAL", "1ms")
        .start()
        .await;
    let good = key.sign(&issuer.claims("user-1"));
    issuer.set(Keys::Away);
    let (status, body) = get(&server, PATH, Some(&good)).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &"auth_unavailable".into())
    );
    assert_eq!(body["error"]["retryable"], true);
    issuer.show(&[&key]);
    // The next attempt is due at once here, so that this is no question of time.
    while get(&server, PATH, Some(&good)).await.0 == 503 {}
    issuer.set(Keys::Away);
    let before = issuer.fetches();
    while issuer.fetches() < before + 3 {
        assert_eq!(get(&server, PATH, Some(&good)).await.0, 404);
    }
    server.stop().await;
}

/// Whatever stands at the address, only a modest set of keys from that very address is taken.
#[tokio::test]
async fn what_is_no_set_of_keys_opens_nothing() {
    let key = SigningKey::es256("k1");
    let elsewhere = Issuer::start(&[&key]).await;
    let issuer = Issuer::start(&[]).await;
    let server = by_keys(&issuer)
        .set("DUOLOGUE_AUTH__JWKS_REFETCH_INTERVAL", "1ms")
        .start()
        .await;
    let good = key.sign(&issuer.claims("user-1"));
    let ok = |body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    };
    let set = serde_json::json!({ "keys": [key.jwk()], "x": "y".repeat(300_000) }).to_string();
    let to = elsewhere.jwks_url();
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    for (what, answer) in [
        ("another's address", redirect),
        ("a page", ok("<html>")),
        ("no list", ok("{\"keys\":{}}")),
        ("too much", ok(&set)),
    ] {
        issuer.set(Keys::Instead(answer));
        let (status, body) = get(&server, PATH, Some(&good)).await;
        assert_eq!(status, 503, "{what}: {body}");
    }
    assert_eq!(elsewhere.fetches(), 0);
    server.stop().await;
}
