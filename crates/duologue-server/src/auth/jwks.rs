//! An issuer's public keys, fetched when they are wanted and kept for a while.
//!
//! Three things may go wrong, and each is bounded: the issuer is away (keys are used on until they
//! are `stale_max` old), it has new keys (a token with an unknown one has them fetched), and somebody
//! sends token after token with keys that do not exist (they are fetched once per `refetch_interval`,
//! by one flight for all who wait).

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
};

/// The largest answer that is read. Real ones have a few thousand bytes.
const JWKS_BYTES_MAX: usize = 256 * 1024;

/// How soon it is tried again while there is no key to go on with. Waiting longer would keep all
/// users out because of one lost packet.
const RETRY_DELAY_WITHOUT_KEYS: Duration = Duration::from_secs(1);

/// The keys of one issuer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Jwks {
    source: Arc<Source>,
    cache: watch::Sender<Cache>,
    /// A fetch goes on when the request that began it is gone, since others wait for it too.
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Source {
    client: Client,
    url: String,
    timeout: Duration,
}

/// What is known, and since when.
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

/// How a search in the cache went.
enum Looked {
    /// The keys have it, and may be used.
    Found(Arc<KeySet>),
    /// They may be used, and do not have it.
    Unknown,
    /// There are none, or they are too old.
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
            source: Arc::new(Source::new(url, config.jwks_timeout)?),
            cache: watch::Sender::new(cache),
            tasks,
        })
    }

    /// The keys, if one of them is the token's. Waits for them only where there is nothing to go on
    /// with.
    pub(super) async fn with_key(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<KeySet>, AuthError> {
        let mut cache = self.cache.subscribe();
        let (looked, is_fresh) = {
            let cache = cache.borrow_and_update();
            let now = Instant::now();
            (cache.look(id, algorithm, now), cache.is_fresh(now))
        };
        if let (Looked::Found(keys), true) = (&looked, is_fresh) {
            return Ok(Arc::clone(keys));
        }
        self.fetch_if_due();
        if let Looked::Found(keys) = looked {
            return Ok(keys);
        }
        let fetched = cache.wait_for(|cache| !cache.is_fetching).await;
        let cache = fetched.expect("`self` holds the sender");
        match cache.look(id, algorithm, Instant::now()) {
            Looked::Found(keys) => Ok(keys),
            Looked::Unknown => Err(AuthError::Invalid),
            Looked::Nothing => Err(AuthError::Unavailable),
        }
    }

    fn fetch_if_due(&self) {
        let is_ours = self
            .cache
            .send_if_modified(|cache| cache.begin_fetch(Instant::now()));
        if !is_ours {
            return;
        }
        let (source, cache) = (Arc::clone(&self.source), self.cache.clone());
        self.tasks.spawn(async move {
            let fetched = source.fetch().await;
            if let Err(error) = &fetched {
                tracing::warn!(error = error as &dyn std::error::Error, "jwks.not_fetched");
            }
            cache.send_modify(|cache| cache.end_fetch(fetched.ok(), Instant::now()));
        });
    }
}

impl Cache {
    fn look(&self, id: Option<&str>, algorithm: Algorithm, now: Instant) -> Looked {
        match &self.known {
            Some(known) if now - known.fetched_at < self.limits.stale_max => {
                match known.keys.find(id, algorithm) {
                    Some(_) => Looked::Found(Arc::clone(&known.keys)),
                    None => Looked::Unknown,
                }
            }
            _ => Looked::Nothing,
        }
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let known = self.known.as_ref();
        known.is_some_and(|known| now - known.fetched_at < self.limits.max_age)
    }

    /// Takes note of a fetch that begins now. `false`: one is under way, or was lately.
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

    /// Keys that could not be fetched leave those that are known.
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

impl Source {
    fn new(url: String, timeout: Duration) -> Result<Self, KeyError> {
        let mut client = Client::builder()
            .user_agent(concat!("duologue/", env!("CARGO_PKG_VERSION")))
            // The keys are pinned to this address; nobody may send us elsewhere for them.
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
        let lost = |error: reqwest::Error| KeyError::Unreachable(error.into());
        let mut response = self.client.get(&self.url).send().await.map_err(lost)?;
        if !response.status().is_success() {
            let status = response.status();
            return Err(KeyError::Unreachable(
                format!("the answer is {status}").into(),
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

/// Fetches an issuer's keys once, to see whether that works.
pub(crate) async fn fetch_keys(url: &str, timeout: Duration) -> Result<KeySet, KeyError> {
    Source::new(url.to_owned(), timeout)?.fetch().await
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
        match cache.look(Some("k"), Algorithm::EdDSA, now) {
            Looked::Found(_) => "found",
            Looked::Unknown => "unknown",
            Looked::Nothing => "nothing",
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
        // The issuer is away: each attempt leaves what there is.
        assert!(cache.begin_fetch(at(11)));
        cache.end_fetch(None, at(11));
        assert_eq!(look(&cache, at(19)), "found");
        assert_eq!(look(&cache, at(20)), "nothing");
    }

    #[test]
    fn a_flood_of_unknown_keys_has_them_fetched_once_per_interval() {
        let start = Instant::now();
        let mut cache = empty();
        assert!(cache.begin_fetch(start));
        assert!(!cache.begin_fetch(start), "one flight for all");
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
    fn without_any_key_it_is_tried_again_soon() {
        let start = Instant::now();
        let mut cache = empty();
        assert!(cache.begin_fetch(start));
        cache.end_fetch(None, start);
        assert!(!cache.begin_fetch(start + Duration::from_millis(900)));
        assert!(cache.begin_fetch(start + Duration::from_secs(1)));
    }
}
