//! Stores for tests: opened, and with them whatever must not go away before they do.

use std::{fmt, num::NonZero, ops::Deref, sync::Arc, time::Duration};

use duologue_engine::store::{Store, operators::OperatorStore};
use duologue_store::StoreConfig;
use tempfile::TempDir;

use crate::crypto::install_crypto;

/// A store, and what it stands on.
pub struct OpenStore<Ground> {
    store: Arc<dyn Store>,
    config: StoreConfig,
    /// For example the folder of its file; removed when this is dropped.
    pub ground: Ground,
}

impl<Ground> OpenStore<Ground> {
    /// Opens the store at `url`.
    pub async fn open(url: &str, ground: Ground) -> Self {
        Self::open_with(&config(url), ground).await
    }

    /// Opens the store that `config` describes.
    pub async fn open_with(config: &StoreConfig, ground: Ground) -> Self {
        install_crypto();
        let store = duologue_store::open(config).await;
        let store = store.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)));
        Self {
            store,
            config: config.clone(),
            ground,
        }
    }

    /// The store itself, shared.
    pub fn handle(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// The same, and beside it the operator's view.
    pub async fn inspected(self) -> (Self, Arc<dyn OperatorStore>) {
        let inspect = duologue_store::open_for_operators(&self.config).await;
        let inspect = inspect.unwrap_or_else(|error| panic!("{:#}", anyhow::Error::from(error)));
        (self, inspect)
    }
}

impl OpenStore<TempDir> {
    /// A new SQLite file in a folder of its own.
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite:{}", folder.path().join("duologue.db").display());
        Self::open(&url, folder).await
    }
}

impl<Ground> Deref for OpenStore<Ground> {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl<Ground> fmt::Debug for OpenStore<Ground> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenStore").finish_non_exhaustive()
    }
}

/// Settings for the store at `url`: few connections, so that tests meet the limits, and short
/// waits where a test waits for a refusal.
pub fn config(url: &str) -> StoreConfig {
    let count = |number| NonZero::new(number).expect("not zero");
    StoreConfig {
        url: url.into(),
        supabase_url: String::new(),
        supabase_key: "".into(),
        supabase_schema: "public".to_owned(),
        connections_max: count(4),
        acquire_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(10),
        lock_timeout: Duration::from_secs(10),
        busy_timeout: Duration::from_secs(10),
        batch_max: count(64),
        queue_max: count(1024),
    }
}
