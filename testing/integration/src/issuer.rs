//! An issuer of tokens: keys made for the test, and a server that shows the public halves, as long as
//! the test lets it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, crypto, jwk::Jwk};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The audience that [`Issuer::claims`] names.
pub const AUDIENCE: &str = "authenticated";

/// A private key and the name of its public half.
pub struct SigningKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: EncodingKey,
}

/// What the server of keys does.
#[derive(Clone, Debug)]
pub enum Keys {
    /// It shows these, each a JWK.
    Shown(Vec<Value>),
    /// It answers any request so, byte for byte.
    Instead(String),
    /// It closes every connection without an answer.
    Away,
}

/// A server of keys. Dropping it stops it.
#[derive(Debug)]
pub struct Issuer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    keys: Mutex<Keys>,
    fetches: AtomicUsize,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:?}, {:?})", self.algorithm, self.id)
    }
}

impl SigningKey {
    /// An elliptic one.
    pub fn es256(id: &str) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random);
        let pkcs8 = pkcs8.expect("a key can be made");
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        Self::new(Some(id), Algorithm::ES256, key)
    }

    /// One of Ed25519.
    pub fn eddsa(id: &str) -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new());
        let pkcs8 = pkcs8.expect("a key can be made");
        let key = EncodingKey::from_ed_der(pkcs8.as_ref());
        Self::new(Some(id), Algorithm::EdDSA, key)
    }

    /// One of RSA with 2,048 bits.
    pub fn rs256(id: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).expect("a key can be made");
        let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).expect("it can be written");
        let text = STANDARD.encode(pkcs8.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).expect("it was just made");
        Self::new(Some(id), Algorithm::RS256, key)
    }

    /// A shared secret.
    pub fn hs256(secret: &[u8]) -> Self {
        Self::new(None, Algorithm::HS256, EncodingKey::from_secret(secret))
    }

    fn new(id: Option<&str>, algorithm: Algorithm, key: EncodingKey) -> Self {
        Self {
            id: id.map(str::to_owned),
            algorithm,
            key,
        }
    }

    /// Its public half, as an issuer shows it.
    pub fn jwk(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm);
        let jwk = jwk.expect("each of our keys has a public half");
        let mut jwk = serde_json::to_value(jwk).expect("a key can be written");
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The header of its tokens.
    pub fn header(&self) -> Value {
        let mut header = json!({ "alg": format!("{:?}", self.algorithm), "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        header
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header().to_string(), &claims.to_string())
    }

    /// A token of any texts, signed well.
    pub fn sign_as(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = crypto::sign(message.as_bytes(), &self.key, self.algorithm);
        format!("{message}.{}", signature.expect("the key suits"))
    }
}

/// A part of a token.
pub fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// This second, as tokens count.
#[expect(
    clippy::disallowed_methods,
    reason = "the server under test goes by the machine's clock"
)]
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

impl Issuer {
    /// Starts one that shows these keys.
    pub async fn start(keys: &[&SigningKey]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await;
        let listener = listener.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            keys: Mutex::new(Keys::Away),
            fetches: AtomicUsize::new(0),
        });
        let (mut accepting, ours) = (JoinSet::new(), Arc::clone(&shared));
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&ours);
                connections.spawn(async move {
                    // A client that is gone got what it wanted.
                    drop(serve(stream, &shared).await);
                });
            }
        });
        let issuer = Self {
            address,
            shared,
            _accepting: accepting,
        };
        issuer.show(keys);
        issuer
    }

    /// Shows these keys from now on.
    pub fn show(&self, keys: &[&SigningKey]) {
        self.set(Keys::Shown(keys.iter().map(|key| key.jwk()).collect()));
    }

    /// Does this from now on.
    pub fn set(&self, keys: Keys) {
        let held = self.shared.keys.lock();
        *held.unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// How often it was asked for keys.
    pub fn fetches(&self) -> usize {
        self.shared.fetches.load(Ordering::SeqCst)
    }

    /// Its address, as in `SUPABASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `iss` of its tokens.
    pub fn name(&self) -> String {
        format!("{}/auth/v1", self.url())
    }

    /// Where its keys are.
    pub fn jwks_url(&self) -> String {
        format!("{}/.well-known/jwks.json", self.name())
    }

    /// What a token of a user says, that is good for ten minutes.
    pub fn claims(&self, user: &str) -> Value {
        json!({ "iss": self.name(), "aud": AUDIENCE, "sub": user, "exp": now() + 600 })
    }
}

async fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    shared.fetches.fetch_add(1, Ordering::SeqCst);
    let keys = shared.keys.lock();
    let keys = keys.unwrap_or_else(PoisonError::into_inner).clone();
    let path = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let answer = match keys {
        Keys::Away => return Ok(()),
        Keys::Instead(answer) => answer,
        Keys::Shown(_) if path != b"/auth/v1/.well-known/jwks.json" => {
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned()
        }
        Keys::Shown(keys) => {
            let body = json!({ "keys": keys }).to_string();
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
                 connection: close\r\n\r\n{body}"
            )
        }
    };
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
