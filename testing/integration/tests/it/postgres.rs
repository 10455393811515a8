//! A conversation on Postgres, directly and behind a transaction-mode pooler: the same as on
//! SQLite, by its address alone.

use duologue_integration::{
    TestServer, pgbouncer::PgBouncer, postgres::Cluster, server::ServerBuilder,
};

/// A question, a restart, its answer, the end, the summary: every kind of write there is.
pub(crate) async fn converse(builder: ServerBuilder) {
    let server = builder.start().await;
    let mut client = server.connect("postgres", "alice").await;
    let question = client.ask("What is my account balance?").await;
    assert_eq!(question.done["finish_reason"], "follow_up");
    client.vanish();
    let server = server.restart().await;
    let mut client = server.connect("postgres", "alice").await;
    let answer = client.ask("user-1").await;
    assert_eq!(answer.of_type("tool_result").len(), 1);
    client.close(1000).await;
    let facts = server
        .session_until("postgres", "alice", |session| {
            session["status"] == "completed"
        })
        .await;
    assert!(facts["summary"].to_string().contains("balance"));
    server.stop().await;
}

#[tokio::test]
async fn a_conversation_lives_in_postgres() {
    let database = Cluster::get().await.database().await;
    converse(
        TestServer::builder()
            .set("DATABASE_URL", &database.url())
            .without_file(),
    )
    .await;
}

#[tokio::test]
async fn a_conversation_lives_in_postgres_behind_a_transaction_pooler() {
    let database = Cluster::get().await.database().await;
    let url = PgBouncer::get().await.url(&database);
    converse(
        TestServer::builder()
            .set("SUPABASE_DB_URL", &url)
            .without_file(),
    )
    .await;
}

/// A database without our tables stops the start, and the message says what to run.
#[tokio::test]
async fn a_database_without_tables_is_refused_with_the_command_that_mends_it() {
    let database = Cluster::get().await.empty_database().await;
    let builder = TestServer::builder()
        .set("DATABASE_URL", &database.url())
        .without_file();
    let refused = format!(
        "{:#}",
        anyhow::Error::from(builder.try_start().await.unwrap_err())
    );
    assert!(refused.contains("duologue migrate"), "{refused}");
}
