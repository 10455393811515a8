//! Postgres behind a transaction pooler: the contract.

use duologue_conformance::{inspect_conformance, store_conformance};
use duologue_integration::{
    pgbouncer::PgBouncer,
    postgres::{Cluster, Database},
    store::OpenStore,
};

async fn open() -> OpenStore<Database> {
    let database = Cluster::get().await.database().await;
    let url = PgBouncer::get().await.url(&database);
    OpenStore::open(&url, database).await
}

store_conformance!(open());
inspect_conformance!(async { open().await.inspected().await });
