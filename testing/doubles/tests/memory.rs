//! The memory store keeps the contract of a store.

use std::sync::Arc;

use duologue_conformance::{inspect_conformance, store_conformance};
use duologue_doubles::memory::MemoryStore;
use duologue_engine::store::Store;

async fn open() -> Box<dyn Store> {
    Box::new(MemoryStore::new())
}

store_conformance!(open());

async fn open_twice() -> (Arc<MemoryStore>, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    (Arc::clone(&store), store)
}

inspect_conformance!(open_twice());
