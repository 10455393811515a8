//! Supabase's REST interface, with a real PostgREST: the contract.

use duologue_conformance::{inspect_conformance, store_conformance};
use duologue_integration::{store::OpenStore, supabase::Project};

async fn open() -> OpenStore<Project> {
    let project = Project::new().await;
    let config = project.config(&project.service_role_key());
    OpenStore::open_with(&config, project).await
}

store_conformance!(open());
inspect_conformance!(async { open().await.inspected().await });
