//! Servers of earlier versions beside those of this one, as during a deploy.

use duologue_engine::store::ServerId;
use duologue_integration::{DEADLINE, postgres::Cluster, store::OpenStore};
use serde_json::{Value, json};
use sqlx::{PgConnection, query_scalar};

use super::sweep_by;
use crate::scene::claim;

/// A call as an earlier version makes it.
async fn call(connection: &mut PgConnection, sql: &'static str) -> Value {
    let answer = query_scalar::<_, Option<Value>>(sql)
        .fetch_one(connection)
        .await;
    answer.unwrap().unwrap_or_default()
}

/// A server of version 1 claims and renews session by session. It holds its sessions by a server's lease all the
/// same: they lapse when it stops renewing, and then it learns that they are lost.
#[tokio::test]
async fn a_server_of_version_1_holds_its_sessions_as_long_as_it_renews_them() {
    let database = Cluster::get().await.database().await;
    let store = OpenStore::open(&database.url(), ()).await;
    let mut old = database.connect().await;
    let claimed = "select duologue_claim('s', 'alice', 'guide', 'old', 0.01, now())";
    assert_eq!(call(&mut old, claimed).await["epoch"], 1);
    let renew = r#"select duologue_renew('old', '[{"session_id": "s", "epoch": 1}]'::jsonb, 600)"#;
    assert_eq!(call(&mut old, renew).await, json!([]));
    let sweep = sweep_by(&ServerId("new".to_owned()));
    assert_eq!(store.claim_lapsed(&sweep).await.unwrap().len(), 0);

    call(&mut old, "select duologue_renew('old', '[]'::jsonb, 0.01)").await;
    let lapsing = async {
        loop {
            if let Some(claimed) = store.claim_lapsed(&sweep).await.unwrap().pop() {
                return claimed;
            }
        }
    };
    let claimed = tokio::time::timeout(DEADLINE, lapsing).await;
    assert_eq!(claimed.expect("it lapses").lease.epoch, 2);
    let lost = json!([{ "session_id": "s", "epoch": 1 }]);
    assert_eq!(call(&mut old, renew).await, lost);
}

/// It sweeps too, and takes nothing from a server of this version that is alive.
#[tokio::test]
async fn a_server_of_version_1_sweeps_what_was_released_and_nothing_else() {
    let database = Cluster::get().await.database().await;
    let store = OpenStore::open(&database.url(), ()).await;
    let released = claim(&*store, "released").await;
    claim(&*store, "kept").await;
    store.release(&released).await.unwrap();
    let mut old = database.connect().await;
    let swept = call(
        &mut old,
        "select duologue_claim_lapsed('old', 600, 0, 10) from pg_sleep(0.001)",
    )
    .await;
    let swept = swept.as_array().expect("a list");
    assert_eq!(swept.len(), 1);
    assert_eq!(swept[0]["session"]["session_id"], "released");
}
