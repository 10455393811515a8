//! The public keys of an issuer (JWKS): fetched on demand, and cached.
//!
//! Three things can go wrong, and each is bounded. If the issuer is unavailable, cached keys are used
//! until they are `stale_max` old. If it has new keys, a token with an unknown key id causes a fetch. If
//! a client sends many tokens with key ids that do not exist, the keys are fetched once per
//! `refetch_interval`, by one request for all waiting clients.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::Algorithm;
use reqwest::{Client, Url, redirect, retry};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    auth::{
        error::AuthError,
        keys::{KeyError, KeySet},
    },
    config::AuthConfig,
    redacted_url::redact_url,
};

/// The maximum size of a JWKS. Real ones have a few thousand bytes.
const JWKS_BYTES_MAX: usize = 256 * 1024;

/// The retry delay while there are no usable keys. With a longer one, a single lost packet would lock
/// all users out.
const RETRY_DELAY_WITHOUT_KEYS: Duration = Duration::from_secs(1);

/// The keys of one issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Jwks {
    endpoint: Arc<JwksEndpoint>,
    cache: watch::Sender<Cache>,
    /// A fetch continues if the request that started it is cancelled, since others wait for it too.
    tasks: TaskTracker,
}

#[derive(Debug)]
struct JwksEndpoint {
    client: Client,
    url: String,
    timeout: Duration,
}

/// The cached keys and their age.
#[derive(Clone, Debug)]
struct Cache {
    limits: CacheLimits,
    known: Option<Known>,
    tried_at: Option<Instant>,
    is_fetching: bool,
}

#[derive(Clone, Debug)]
struct Known {
    keys: Arc<KeySet>,
    fetched_at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct CacheLimits {
    max_age: Duration,
    stale_max: Duration,
    refetch_interval: Duration,
}

/// The result of a look-up in the cache.
enum Lookup {
    /// The key is in the cache, and may be used.
    Found(Arc<KeySet>),
    /// The cache may be used, and does not have the key.
    Unknown,
    /// There are no keys, or they are too old.
    Nothing,
}

impl Jwks {
    pub(super) fn new(
        url: String,
        config: &AuthConfig,
        tasks: TaskTracker,
    ) -> Result<Self, KeyError> {
        let cache = Cache {
            limits: CacheLimits {
                max_age: config.jwks_max_age,
                stale_max: config.jwks_stale_max,
                refetch_interval: config.jwks_refetch_interval,
            },
            known: None,
            tried_at: None,
            is_fetching: false,
        };
        Ok(Self {
            endpoint: Arc::new(JwksEndpoint::new(url, config.jwks_timeout)?),
            cache: watch::Sender::new(cache),
            tasks,
        })
    }

    /// The keys, if the key of the token is among them. Waits for a fetch only if the cache does not
    /// have the key.
    pub(super) async fn with_key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<KeySet>, AuthError> {
        let mut cache = self.cache.subscribe();
        let (found, is_fresh) = {
            let cache = cache.borrow_and_update();
            let now = Instant::now();
            (cache.find(id, algorithm, now), cache.is_fresh(now))
        };
        if let (Lookup::Found(keys), true) = (&found, is_fresh) {
            return Ok(Arc::clone(keys));
        }
        self.fetch_if_due();
        if let Lookup::Found(keys) = found {
            return Ok(keys);
        }
        let fetched = cache.wait_for(|cache| !cache.is_fetching).await;
        let cache = fetched.expect("`self` holds the sender");
        match cache.find(id, algorithm, Instant::now()) {
            Lookup::Found(keys) => Ok(keys),
            Lookup::Unknown => Err(AuthError::Invalid),
            Lookup::Nothing => Err(AuthError::Unavailable),
        }
    }

    fn fetch_if_due(&self) {
        let is_ours = self
            .cache
            .send_if_modified(|cache| cache.begin_fetch(Instant::now()));
        if !is_ours {
            return;
        }
        let (endpoint, cache) = (Arc::clone(&self.endpoint), self.cache.clone());
        self.tasks.spawn(async move {
            let fetched = endpoint.fetch().await;
            if let Err(error) = &fetched {
                tracing::warn!(
                    url = redact_url(&endpoint.url),
                    error = error as &dyn std::error::Error,
                    "jwks.not_fetched"
                );
            }
            cache.send_modify(|cache| cache.end_fetch(fetched.ok(), Instant::now()));
        });
    }
}

impl Cache {
    fn find(&self, id: Option<&str>, algorithm: Algorithm, now: Instant) -> Lookup {
        match &self.known {
            Some(known) if now - known.fetched_at < self.limits.stale_max => {
                match known.keys.find(id, algorithm) {
                    Some(_) => Lookup::Found(Arc::clone(&known.keys)),
                    None => Lookup::Unknown,
                }
            }
            _ => Lookup::Nothing,
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| now - known.fetched_at < self.limits.max_age)
    }

    /// Notes that a fetch begins now. `false`: one is running, or was recently.
    fn begin_fetch(&mut self, now: Instant) -> bool {
        let known = self.known.as_ref();
        let is_usable = known.is_some_and(|known| now - known.fetched_at < self.limits.stale_max);
        let pause = if is_usable {
            self.limits.refetch_interval
        } else {
            self.limits.refetch_interval.min(RETRY_DELAY_WITHOUT_KEYS)
        };
        if self.is_fetching || self.tried_at.is_some_and(|at| now - at < pause) {
            return false;
        }
        self.is_fetching = true;
        self.tried_at = Some(now);
        true
    }

    /// Notes the result of a fetch. If it failed, the cached keys remain.
    fn end_fetch(&mut self, keys: Option<KeySet>, now: Instant) {
        self.is_fetching = false;
        if let Some(keys) = keys {
            self.known = Some(Known {
                keys: Arc::new(keys),
                fetched_at: now,
            });
        }
    }
}

impl JwksEndpoint {
    fn new(url: String, timeout: Duration) -> Result<Self, KeyError> {
        let mut client = Client::builder()
            .user_agent(concat!("duologue/", env!("CARGO_PKG_VERSION")))
            // Keys come from this URL only; a redirect could lead to other keys.
            .redirect(redirect::Policy::none())
            .retry(retry::never());
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(KeyError::Client)?;
        Ok(Self {
            client,
            url,
            timeout,
        })
    }

    async fn fetch(&self) -> Result<KeySet, KeyError> {
        let fetching = timeout(self.timeout, self.read());
        let elapsed = |error: tokio::time::error::Elapsed| KeyError::Unreachable(error.into());
        KeySet::read(&fetching.await.map_err(elapsed)??)
    }

    async fn read(&self) -> Result<Vec<u8>, KeyError> {
        // The URL may contain an API key.
        let lost = |error: reqwest::Error| KeyError::Unreachable(error.without_url().into());
        let mut response = self.client.get(&self.url).send().await.map_err(lost)?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(KeyError::Unreachable(
                format!("the status is {status}").into(),
            ));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > JWKS_BYTES_MAX {
                let cause = format!("it is larger than {JWKS_BYTES_MAX} bytes");
                return Err(KeyError::Unreadable(cause.into()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Fetches the keys of an issuer once, for `duologue check`.
pub(crate) async fn fetch_keys(url: &str, timeout: Duration) -> Result<KeySet, KeyError> {
    JwksEndpoint::new(url.to_owned(), timeout)?.fetch().await
}

fn is_loopback(url: &str) -> bool {
    let url = Url::parse(url).ok();
    url.as_ref().and_then(Url::host_str).is_some_and(|host| {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let ip = address.parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CacheLimits = CacheLimits {
        max_age: Duration::from_mins(10),
        stale_max: Duration::from_mins(20),
        refetch_interval: Duration::from_secs(30),
    };

    fn empty() -> Cache {
        Cache {
            limits: LIMITS,
            known: None,
            tried_at: None,
            is_fetching: false,
        }
    }

    fn look(cache: &Cache, now: Instant) -> &'static str {
        match cache.find(Some("k"), Algorithm::EdDSA, now) {
            Lookup::Found(_) => "found",
            Lookup::Unknown => "unknown",
            Lookup::Nothing => "nothing",
        }
    }

    /// The key of RFC 8037, appendix A.
    fn keys() -> KeySet {
        let set = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k",
            "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
        KeySet::read(set.as_bytes()).unwrap()
    }

    #[test]
    fn keys_outlive_an_outage_of_their_issuer_for_a_bounded_time() {
        let start = Instant::now();
        let mut cache = empty();
        assert_eq!(look(&cache, start), "nothing");
        assert!(cache.begin_fetch(start));
        cache.end_fetch(Some(keys()), start);
        let at = |minutes: u64| start + Duration::from_mins(minutes);
        assert!(cache.is_fresh(at(9)) && !cache.is_fresh(at(10)));
        // The issuer is unavailable: a failed fetch keeps the cached keys.
        assert!(cache.begin_fetch(at(11)));
        cache.end_fetch(None, at(11));
        assert_eq!(look(&cache, at(19)), "found");
        assert_eq!(look(&cache, at(20)), "nothing");
    }

    #[test]
    fn unknown_key_ids_cause_one_fetch_per_interval() {
        let start = Instant::now();
        let mut cache = empty();
        assert!(cache.begin_fetch(start));
        assert!(!cache.begin_fetch(start), "one request for all");
        cache.end_fetch(Some(KeySet::default()), start);
        assert_eq!(look(&cache, start), "unknown");
        let mut fetches = 0;
        for second in 1..=60 {
            let now = start + Duration::from_secs(second);
            if cache.begin_fetch(now) {
                fetches += 1;
                cache.end_fetch(Some(KeySet::default()), now);
            }
        }
        assert_eq!(fetches, 2);
    }

    #[test]
    fn without_any_key_a_fetch_is_retried_soon() {
        let start = Instant::now();
        let mut cache = empty();
        assert!(cache.begin_fetch(start));
        cache.end_fetch(None, start);
        assert!(!cache.begin_fetch(start + Duration::from_millis(900)));
        assert!(cache.begin_fetch(start + Duration::from_secs(1)));
    }
}
