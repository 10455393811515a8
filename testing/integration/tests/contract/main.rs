//! The contract of the store, kept by every implementation; and what only one of them promises.

#![expect(
    clippy::unwrap_used,
    reason = "these are tests, also where a helper does the unwrapping"
)]

mod model;
mod postgres;
mod postgres_pooled;
mod rest;
mod rest_faults;
mod rest_startup;
mod scene;
mod schema;
mod sqlite;

mod memory {
    use duologue_conformance::store_conformance;
    use duologue_doubles::memory::MemoryStore;
    use duologue_engine::store::Store;

    async fn open() -> Box<dyn Store> {
        Box::new(MemoryStore::new())
    }

    store_conformance!(open());
}
