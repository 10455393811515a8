//! Supabase's REST interface: the messages of a start that cannot use it.

use duologue_integration::{
    fault_proxy::Fault,
    postgres::Database,
    server::install_crypto,
    store::OpenStore,
    supabase::{PUBLISHABLE_KEY, Project, SECRET_KEY},
};
use duologue_store::StoreConfig;

/// Why a store is not opened, with all its causes. It never shows the key.
async fn refusal(config: &StoreConfig) -> String {
    install_crypto();
    let Err(error) = duologue_store::open(config).await else {
        panic!("the store opened");
    };
    format!("{:#}", anyhow::Error::from(error))
}

/// The two kinds of keys open the same store. The newer kind is no token, so it must not be sent
/// where a token is expected.
#[tokio::test]
async fn both_kinds_of_keys_open_the_store() {
    let project = Project::new().await;
    for (key, is_token) in [
        (project.service_role_key(), true),
        (SECRET_KEY.to_owned(), false),
    ] {
        project.gateway.will([]);
        OpenStore::open_with(&project.config(&key), ()).await;
        let seen = project.gateway.seen();
        let headers = &seen.last().expect("opening makes a call").headers;
        assert_eq!(headers["apikey"], key);
        assert_eq!(headers.contains_key("authorization"), is_token);
        assert_eq!(headers["content-profile"], "public");
    }
}

#[tokio::test]
async fn a_key_that_is_wrong_is_told_by_the_name_of_its_variable() {
    let (project, other) = (Project::new().await, Project::new().await);
    let key = project.service_role_key();
    for wrong in [
        // Of another project, cut when it was copied, one that may not write, unknown, and public.
        other.service_role_key(),
        key[..key.len() - 1].to_owned(),
        project.anon_key(),
        "sb_secret_of_nobody".to_owned(),
        PUBLISHABLE_KEY.to_owned(),
    ] {
        let error = refusal(&project.config(&wrong)).await;
        assert!(error.contains("SUPABASE_SERVICE_ROLE_KEY"), "{error}");
        assert!(!error.contains(&wrong), "{error}");
    }
}

#[tokio::test]
async fn a_project_without_our_functions_is_told_to_run_schema_sql() {
    let project = Project::on(Project::bare_database().await, "public").await;
    let config = project.config(SECRET_KEY);
    let error = refusal(&config).await;
    assert!(error.contains("run schema.sql"), "{error}");
    let Err(error) = duologue_store::migrate(&config).await else {
        panic!("tables were made over HTTP");
    };
    assert!(error.to_string().contains("run schema.sql"), "{error}");
}

#[tokio::test]
async fn tables_that_are_too_old_are_told_to_run_schema_sql() {
    let project = Project::new().await;
    let mut connection = project.database().connect().await;
    sqlx::query("delete from duologue_migrations")
        .execute(&mut connection)
        .await
        .unwrap();
    let error = refusal(&project.config(SECRET_KEY)).await;
    assert!(
        error.contains("out of date") && error.contains("run this version's schema.sql"),
        "{error}"
    );
}

#[tokio::test]
async fn tables_of_the_far_future_are_left_to_the_build_that_knows_them() {
    let project = Project::new().await;
    let mut connection = project.database().connect().await;
    sqlx::query("insert into duologue_migrations values (999, 'later', now(), true, '', 0)")
        .execute(&mut connection)
        .await
        .unwrap();
    let error = refusal(&project.config(SECRET_KEY)).await;
    assert!(
        error.contains("are of version 999") && error.contains("start the newer Duologue"),
        "{error}"
    );
}

/// Another schema than `public` is found by its name, and must be shown by the interface.
#[tokio::test]
async fn another_schema_is_used_if_the_interface_shows_it() {
    let database = Project::bare_database().await;
    make_schema(&database, "chat").await;
    let project = Project::on(database, "public, chat").await;
    let config = |schema: &str| StoreConfig {
        supabase_schema: schema.to_owned(),
        ..project.config(SECRET_KEY)
    };
    let store = OpenStore::open_with(&config("chat"), ()).await;
    store.ping().await.unwrap();

    let error = refusal(&config("hidden")).await;
    assert!(
        error.contains("does not show the schema `hidden`") && error.contains("SUPABASE_SCHEMA"),
        "{error}"
    );
    let error = refusal(&config("public")).await;
    assert!(error.contains("run schema.sql"), "{error}");
}

async fn make_schema(database: &Database, schema: &str) {
    let mut connection = database.connect_as_superuser().await;
    let sql = format!(
        "create schema {schema} authorization duologue; grant usage on schema {schema} to service_role"
    );
    let made = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection);
    made.await.unwrap();
    let url = format!("{}&options=-csearch_path%3D{schema}", database.url());
    let migrated = duologue_store::migrate(&duologue_integration::store::config(&url)).await;
    migrated.unwrap();
}

#[tokio::test]
async fn what_is_no_project_is_told_by_the_name_of_its_variable() {
    let project = Project::new().await;
    let config = project.config(SECRET_KEY);
    for fault in [Fault::Page(200), Fault::Page(404), Fault::Page(301)] {
        project.gateway.will([fault.clone()]);
        let error = refusal(&config).await;
        assert!(
            error.contains("SUPABASE_URL") && error.contains("no Supabase project"),
            "{fault:?}: {error}"
        );
    }
    project.gateway.will(vec![Fault::Page(503); 3]);
    let error = refusal(&config).await;
    assert!(error.contains("no Supabase project answers"), "{error}");

    drop(project);
    let error = refusal(&config).await;
    assert!(
        error.contains("SUPABASE_URL") && error.contains("answers at 127.0.0.1"),
        "{error}"
    );
}
