//! Tokens that somebody would like to be good.

use duologue_integration::{
    TestServer,
    issuer::{AUDIENCE, Issuer, SigningKey, encode, now},
};
use serde_json::{Value, json};

use super::{SECRET, by_keys, connect_as, get};

/// An issuer, what it signs with, and what others sign with.
struct Scene {
    issuer: Issuer,
    ours: SigningKey,
    rsa: SigningKey,
    theirs: SigningKey,
}

impl Scene {
    fn claims(&self) -> Value {
        self.issuer.claims("user-1")
    }

    /// The claims, but for one that says something else.
    fn with(&self, claim: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[claim] = value;
        claims
    }

    fn without(&self, claim: &str) -> Value {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(claim);
        claims
    }

    /// A good signature under a header that says more, or something else.
    fn header(&self, name: &str, value: Value) -> String {
        let mut header = self.ours.header();
        header[name] = value;
        let claims = self.claims().to_string();
        self.ours.sign_as(&header.to_string(), &claims)
    }

    fn wrong_claims(&self) -> Vec<(&'static str, String)> {
        let sign = |claims: Value| self.ours.sign(&claims);
        let text = self.claims().to_string();
        let doubled = |extra: &str| {
            let text = format!("{},{extra}}}", text.trim_end_matches('}'));
            self.ours.sign_as(&self.ours.header().to_string(), &text)
        };
        vec![
            ("another audience", sign(self.with("aud", json!("anon")))),
            ("other audiences", sign(self.with("aud", json!(["a", "b"])))),
            ("no audience", sign(self.without("aud"))),
            ("null as audience", sign(self.with("aud", Value::Null))),
            (
                "another issuer",
                sign(self.with("iss", json!("https://evil.test/auth/v1"))),
            ),
            (
                "a longer issuer",
                sign(self.with("iss", json!(format!("{}/", self.issuer.name())))),
            ),
            (
                "two issuers",
                sign(self.with("iss", json!([self.issuer.name(), "https://evil.test"]))),
            ),
            ("no issuer", sign(self.without("iss"))),
            ("no end", sign(self.without("exp"))),
            (
                "an end that is a text",
                sign(self.with("exp", json!("9999999999"))),
            ),
            ("an end before all time", sign(self.with("exp", json!(-1)))),
            (
                "an end that no calendar has",
                sign(self.with("exp", json!(1e18))),
            ),
            (
                "an end long ago",
                sign(self.with("exp", json!(now() - 3600))),
            ),
            (
                "an end beyond the leeway",
                sign(self.with("exp", json!(now() - 40))),
            ),
            (
                "a beginning to come",
                sign(self.with("nbf", json!(now() + 3600))),
            ),
            ("no subject", sign(self.without("sub"))),
            ("an empty subject", sign(self.with("sub", json!("")))),
            (
                "a subject that is a number",
                sign(self.with("sub", json!(1))),
            ),
            (
                "a subject with a control character",
                sign(self.with("sub", json!("a\u{0}b"))),
            ),
            (
                "a subject of 129 characters",
                sign(self.with("sub", json!("x".repeat(129)))),
            ),
            ("two ends", doubled(r#""exp":9999999999"#)),
            ("two subjects", doubled(r#""sub":"user-2""#)),
            ("two audiences by name", doubled(r#""aud":"authenticated""#)),
            ("claims that are a list", sign(json!([self.claims()]))),
            (
                "an oversized one",
                sign(self.with("padding", json!("x".repeat(9000)))),
            ),
        ]
    }

    fn wrong_headers(&self) -> Vec<(&'static str, String)> {
        let evil = Value::from("https://evil.test/jwks.json");
        vec![
            ("crit", self.header("crit", json!(["exp"]))),
            ("an empty crit", self.header("crit", json!([]))),
            ("b64", self.header("b64", json!(false))),
            ("compression", self.header("zip", json!("DEF"))),
            ("encryption", self.header("enc", json!("A256GCM"))),
            ("another type", self.header("typ", json!("JWE"))),
            (
                "an algorithm of another key",
                self.header("alg", json!("RS256")),
            ),
            (
                "an algorithm not allowed",
                self.header("alg", json!("ES384")),
            ),
            (
                "an algorithm in other letters",
                self.header("alg", json!("es256")),
            ),
            (
                "a key that is a path",
                self.header("kid", json!("../../dev/null")),
            ),
            (
                "a key that is a query",
                self.header("kid", json!("k1' or '1'='1")),
            ),
            ("a key that is no text", self.header("kid", json!(["k1"]))),
            ("another's keys by address", {
                let header = json!({ "alg": "ES256", "kid": "k2", "jku": evil, "x5u": evil });
                self.theirs
                    .sign_as(&header.to_string(), &self.claims().to_string())
            }),
            ("another's key enclosed", {
                let header = json!({ "alg": "ES256", "jwk": self.theirs.jwk() });
                self.theirs
                    .sign_as(&header.to_string(), &self.claims().to_string())
            }),
        ]
    }

    fn wrong_signatures(&self) -> Vec<(&'static str, String)> {
        let claims = self.claims().to_string();
        let good = self.ours.sign(&self.claims());
        let parts: Vec<&str> = good.split('.').collect();
        let none = |alg: &str| {
            let header = json!({ "alg": alg, "typ": "JWT" }).to_string();
            format!("{}.{}", encode(&header), encode(&claims))
        };
        let confused = |public: &str| {
            let header = json!({ "alg": "HS256", "kid": "k1" }).to_string();
            SigningKey::hs256(public.as_bytes()).sign_as(&header, &claims)
        };
        let (ec, rsa) = (self.ours.jwk(), self.rsa.jwk());
        let other_claims = encode(&self.with("sub", json!("user-2")).to_string());
        let mut flipped = good.clone();
        let last = if flipped.pop() == Some('A') { 'g' } else { 'A' };
        flipped.push(last);
        vec![
            ("nothing", String::new()),
            ("a word", "token".into()),
            ("two parts", format!("{}.{}", parts[0], parts[1])),
            ("an empty signature", format!("{}.{}.", parts[0], parts[1])),
            ("five parts", format!("{good}.e30.e30")),
            ("none", format!("{}.", none("none"))),
            ("None, signed with nothing", format!("{}.e30", none("None"))),
            (
                "other claims",
                format!("{}.{other_claims}.{}", parts[0], parts[2]),
            ),
            (
                "another's signature",
                self.theirs
                    .sign_as(&self.ours.header().to_string(), &claims),
            ),
            ("a byte changed", flipped),
            ("padding", format!("{good}==")),
            (
                "a secret that is the RSA key's modulus",
                confused(rsa["n"].as_str().unwrap()),
            ),
            (
                "a secret that is the elliptic key",
                confused(ec["x"].as_str().unwrap()),
            ),
            ("a secret that is the whole key", confused(&ec.to_string())),
            ("an empty secret", confused("")),
        ]
    }
}

async fn scene() -> Scene {
    let (ours, rsa) = (SigningKey::es256("k1"), SigningKey::rs256("k3"));
    let issuer = Issuer::start(&[&ours, &rsa]).await;
    let theirs = SigningKey::es256("k2");
    Scene {
        issuer,
        ours,
        rsa,
        theirs,
    }
}

/// Goal: no token but a good one opens anything, wherever it is shown. Method: sign all kinds of
/// wrong ones well, and right ones wrongly.
#[tokio::test]
async fn bad_tokens_are_refused_on_every_door() {
    let scene = scene().await;
    let server = by_keys(&scene.issuer).start().await;
    let good = scene.ours.sign(&scene.claims());
    let path = "/v1/sessions/s";
    assert_eq!(get(&server, path, Some(&good)).await.0, 404, "the good one");
    let mut corpus = scene.wrong_claims();
    corpus.extend(scene.wrong_headers());
    corpus.extend(scene.wrong_signatures());
    assert!(corpus.len() > 50);
    for (what, token) in corpus {
        let (status, body) = get(&server, path, Some(&token)).await;
        assert_eq!(status, 401, "{what}: {body}");
        assert_eq!(body["error"]["code"], "unauthorized", "{what}");
        let refused = connect_as(&server, "s", &token).await;
        assert_eq!(refused.err(), Some(401), "{what}, by WebSocket");
    }
    assert_eq!(get(&server, path, None).await.0, 401, "no token");
    // None of them has made a session.
    assert_eq!(get(&server, path, Some(&good)).await.0, 404);
    server.stop().await;
}

/// A server with a secret alone takes no token of another kind, and the other way round.
#[tokio::test]
async fn with_a_shared_secret_only_its_own_tokens_are_good() {
    let scene = scene().await;
    let server = TestServer::builder()
        .set("DUOLOGUE_AUTH__MODE", "jwt")
        .set("DUOLOGUE_AUTH__ISSUER", &scene.issuer.name())
        .set("DUOLOGUE_AUTH__AUDIENCE", AUDIENCE)
        .set("SUPABASE_JWT_SECRET", SECRET)
        .start()
        .await;
    let secret = SigningKey::hs256(SECRET.as_bytes());
    let path = "/v1/sessions/s";
    let good = secret.sign(&scene.claims());
    assert_eq!(get(&server, path, Some(&good)).await.0, 404);
    for (what, token) in [
        ("a public key's", scene.ours.sign(&scene.claims())),
        (
            "another secret's",
            SigningKey::hs256(b"guess").sign(&scene.claims()),
        ),
        (
            "HS512",
            secret.sign_as(r#"{"alg":"HS512"}"#, &scene.claims().to_string()),
        ),
    ] {
        assert_eq!(get(&server, path, Some(&token)).await.0, 401, "{what}");
    }
    server.stop().await;
}

/// Every kind of key that is allowed, and the smaller freedoms that the standard gives.
#[tokio::test]
async fn good_tokens_of_every_kind_are_accepted() {
    let (ec, rsa, ed) = (
        SigningKey::es256("ec"),
        SigningKey::rs256("rsa"),
        SigningKey::eddsa("ed"),
    );
    let issuer = Issuer::start(&[&ec, &rsa, &ed]).await;
    let server = by_keys(&issuer)
        .set("SUPABASE_JWT_SECRET", SECRET)
        .start()
        .await;
    let claims = issuer.claims("user-1");
    let with = |claim: &str, value: Value| {
        let mut claims = claims.clone();
        claims[claim] = value;
        ec.sign(&claims)
    };
    let header = json!({ "alg": "ES256", "typ": "at+jwt" }).to_string();
    for (what, token) in [
        ("ES256", ec.sign(&claims)),
        ("RS256", rsa.sign(&claims)),
        ("EdDSA", ed.sign(&claims)),
        ("HS256", SigningKey::hs256(SECRET.as_bytes()).sign(&claims)),
        (
            "one audience of two",
            with("aud", json!(["other", "authenticated"])),
        ),
        (
            "an end with a fraction",
            with(
                "exp",
                json!(600.5 + f64::from(u32::try_from(now()).unwrap())),
            ),
        ),
        (
            "just expired, within the leeway",
            with("exp", json!(now() - 5)),
        ),
        (
            "no key named, and only one that fits",
            ec.sign_as(&header, &claims.to_string()),
        ),
    ] {
        let (status, body) = get(&server, "/v1/sessions/s", Some(&token)).await;
        assert_eq!(status, 404, "{what}: {body}");
    }
    server.stop().await;
}
