//! Postgres: the contract.

use duologue_engine::store_conformance;
use duologue_integration::{
    postgres::{Cluster, Database},
    store::OpenStore,
};

async fn open() -> OpenStore<Database> {
    let database = Cluster::get().await.database().await;
    OpenStore::open(&database.url(), database).await
}

store_conformance!(open());
