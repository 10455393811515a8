//! Who tries tokens until one fits.

use duologue_integration::{Client, issuer::Issuer, issuer::SigningKey, server::http};
use serde_json::json;

use super::by_keys;

/// After a few wrong tokens nothing from that address is looked at, not even a good one, however it comes;
/// elsewhere nobody notices.
#[tokio::test]
async fn wrong_tokens_shut_their_address_out_for_a_while() {
    let key = SigningKey::es256("k1");
    let stranger = SigningKey::es256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let server = by_keys(&issuer)
        .set("DUOLOGUE_SERVER__PROXIES_TRUSTED", "127.0.0.1")
        .set("DUOLOGUE_LIMITS__ADDRESS__AUTH_FAILURES_PER_MINUTE", "3")
        .start()
        .await;
    let good = key.sign(&issuer.claims("alice"));
    let wrong = stranger.sign(&issuer.claims("alice"));
    let ask = async |address: &str, token: &str| {
        let request = http().get(server.url("/v1/sessions/s"));
        let request = request
            .header("x-forwarded-for", address)
            .bearer_auth(token);
        request.send().await.unwrap()
    };
    assert_eq!(ask("203.0.113.9", &good).await.status(), 404);
    for _ in 0..4 {
        assert_eq!(ask("203.0.113.9", &wrong).await.status(), 401);
    }
    for token in [&wrong, &good] {
        let refused = ask("203.0.113.9", token).await;
        assert_eq!(refused.status(), 429);
        assert!(refused.headers().contains_key("retry-after"));
        let body: serde_json::Value = refused.json().await.unwrap();
        assert_eq!(body["error"]["code"], "too_many_requests");
        assert!(
            body["error"]["retry_after_ms"]
                .as_u64()
                .is_some_and(|wait| wait <= 20_000)
        );
    }
    assert_eq!(ask("203.0.113.10", &good).await.status(), 404);
    server.stop().await;
}

/// The same for tokens that come after the handshake.
#[tokio::test]
async fn wrong_tokens_in_first_frames_count_too() {
    let key = SigningKey::es256("k1");
    let stranger = SigningKey::es256("k1");
    let issuer = Issuer::start(&[&key]).await;
    let server = by_keys(&issuer)
        .set("DUOLOGUE_LIMITS__ADDRESS__AUTH_FAILURES_PER_MINUTE", "2")
        .start()
        .await;
    let (good, wrong) = (
        key.sign(&issuer.claims("alice")),
        stranger.sign(&issuer.claims("alice")),
    );
    for (token, code, close) in [
        (&wrong, "unauthorized", 4401),
        (&wrong, "unauthorized", 4401),
        (&wrong, "unauthorized", 4401),
        (&good, "too_many_requests", 4029),
    ] {
        let mut client = Client::open(&server.socket_url("s", "")).await;
        client.until("auth_required").await;
        client
            .send_json(json!({ "type": "auth", "token": token }))
            .await;
        let refused = client.until("error").await;
        assert_eq!(refused["code"], code);
        assert_eq!(refused["retry_after_ms"].is_u64(), close == 4029);
        assert_eq!(client.until_closed().await.0, close);
    }
    server.stop().await;
}
