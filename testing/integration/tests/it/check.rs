//! `duologue check` and `duologue health`: the truth about what is configured, before and beside a
//! server.

use std::collections::BTreeMap;

use duologue_integration::{
    TestServer,
    child::free_port,
    postgres::Cluster,
    process::{ServerProcess, run_to_end},
    server::install_crypto,
    supabase::{Project, SECRET_KEY},
};
use duologue_llm::testing::{Script, ScriptedUpstream};
use duologue_server::{
    check,
    config::{self, Environment},
};
use serde_json::json;

/// Checks what these variables configure; the table, and how many parts fail.
///
/// The store is a new SQLite file unless another is given.
async fn look(variables: &[(&str, &str)]) -> (String, usize) {
    install_crypto();
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = format!("sqlite:{}", folder.path().join("d.db").display());
    let mut all = BTreeMap::from([("DATABASE_URL", file.as_str())]);
    all.extend(variables.iter().copied());
    let environment = Environment::new(all, []);
    let loaded = config::load(None, &environment, Vec::new());
    let loaded = loaded.expect("the variables are right");
    let report = check::run(&loaded).await;
    let text = report.to_string().replace(&file["sqlite:".len()..], "FILE");
    for shown in [&text, &format!("{report:?}")] {
        assert!(!shown.contains("canary"), "a secret is shown: {shown}");
    }
    (text, report.failures())
}

#[tokio::test]
async fn out_of_the_box_everything_works_without_network() {
    let (table, failures) = look(&[]).await;
    assert_eq!(failures, 0, "{table}");
    insta::assert_snapshot!(table, @"
    store  works    SQLite, FILE: `duologue serve` will create its tables
    model  works    mock; set OPENAI_API_KEY or GROQ_API_KEY for a real model
    agent  works    duologue (built in)
    auth   works    disabled: the server requires no token
    ");
}

#[tokio::test]
async fn a_postgres_is_known_by_its_tables_or_by_what_it_lacks() {
    let database = Cluster::get().await.database().await;
    let (table, failures) = look(&[("SUPABASE_DB_URL", &database.url())]).await;
    assert_eq!(failures, 0, "{table}");
    assert!(table.contains("responds, schema "), "{table}");

    let empty = Cluster::get().await.empty_database().await;
    let (table, failures) = look(&[("SUPABASE_DB_URL", &empty.url())]).await;
    assert_eq!(failures, 1, "{table}");
    assert!(table.contains("run `duologue migrate` first"), "{table}");

    let nowhere = database.url().replace(database.name(), "nowhere");
    let (table, failures) = look(&[("SUPABASE_DB_URL", &nowhere)]).await;
    assert_eq!(failures, 1, "{table}");
    let words = "correct user, password and database in SUPABASE_DB_URL";
    assert!(table.contains(words), "{table}");
}

#[tokio::test]
async fn a_supabase_project_is_known_by_its_tables_or_by_the_key_it_refuses() {
    let project = Project::new().await;
    let url = project.url();
    let with_key = async |key| {
        look(&[
            ("DATABASE_URL", ""),
            ("SUPABASE_URL", &*url),
            ("SUPABASE_SERVICE_ROLE_KEY", key),
        ])
        .await
    };
    let (table, failures) = with_key(SECRET_KEY).await;
    assert_eq!(failures, 0, "{table}");
    assert!(table.contains("store  works    Supabase REST"), "{table}");

    let (table, failures) = with_key("sb_secret_canary").await;
    assert_eq!(failures, 1, "{table}");
    assert!(table.contains("set SUPABASE_SERVICE_ROLE_KEY"), "{table}");
}

/// One part that fails hides no other, and each says which variable to look at.
#[tokio::test]
async fn everything_that_fails_is_told_at_once_with_what_to_do() {
    let upstream = ScriptedUpstream::start().await;
    let words = "Incorrect API key provided: sk-canary.";
    upstream.lists_models(Script::error(401, words));
    let port = free_port().unwrap();
    let database = format!("postgres://ann:canary@127.0.0.1:{port}/chat");
    let (table, failures) = look(&[
        ("SUPABASE_DB_URL", &database),
        ("OPENAI_API_KEY", "sk-canary"),
        ("OPENAI_BASE_URL", &upstream.base_url()),
        ("DUOLOGUE_AGENT__FILE", "no/such/agent.toml"),
    ])
    .await;
    assert_eq!(failures, 3, "{table}");
    insta::assert_snapshot!(table.replace(&port.to_string(), "PORT"), @"
    store  FAILS    no Postgres answers at 127.0.0.1:PORT/chat: error communicating with database: Connection refused (os error 111)
           to do:   start the database, or correct host, port and `sslmode` in SUPABASE_DB_URL
    model  FAILS    gpt-4o-mini at 127.0.0.1: the endpoint refuses the key: 401: Incorrect API key provided: ***. (error)
           to do:   put a key that is valid at this endpoint into OPENAI_API_KEY
    agent  FAILS    agent.file: cannot read no/such/agent.toml: No such file or directory (os error 2)
    auth   works    disabled: the server requires no token
    ");
}

#[tokio::test]
async fn a_model_is_found_or_its_neighbours_are_named() {
    let upstream = ScriptedUpstream::start().await;
    let models = json!({"object": "list", "data": [{"id": "gpt-5"}, {"id": "gpt-5-mini"}]});
    upstream.lists_models(Script::json(200, &models));
    let (key, base_url) = (
        ("GROQ_API_KEY", "gsk-canary"),
        ("GROQ_BASE_URL", &*upstream.base_url()),
    );
    let (table, failures) = look(&[key, base_url, ("GROQ_MODEL", "gpt-5")]).await;
    assert_eq!(failures, 0, "{table}");
    assert!(table.contains("works    gpt-5 at 127.0.0.1"), "{table}");

    let (table, failures) = look(&[key, base_url, ("GROQ_MODEL", "gpt-6")]).await;
    assert_eq!(
        failures, 0,
        "what is not listed may still be there: {table}"
    );
    assert!(table.contains("unclear  gpt-6 at 127.0.0.1"), "{table}");
    let words = "check whether GROQ_MODEL is right: it lists gpt-5, gpt-5-mini";
    assert!(table.contains(words), "{table}");
}

/// A server's own file is no failure, and a look does not disturb the server.
#[tokio::test]
async fn a_file_that_is_being_served_is_left_alone() {
    let server = TestServer::builder().on_file().start().await;
    let file = format!("sqlite:{}", server.database().display());
    let (table, failures) = look(&[("DUOLOGUE_STORE__URL", &file)]).await;
    assert_eq!(failures, 0, "{table}");
    assert!(table.contains("a running server has it open"), "{table}");
    server.connect("s", "alice").await.ask("hello").await;
    server.stop().await;
}

/// Scripts go by the exit code. A configuration that cannot be read is a failure too.
#[tokio::test]
async fn the_exit_code_says_whether_all_works() {
    let folder = tempfile::tempdir().unwrap();
    let check = async |settings| run_to_end(folder.path(), &["check"], settings).await;
    let fine = check(&[]).await;
    assert_eq!(fine.status.code(), Some(0), "{fine:?}");
    assert!(String::from_utf8_lossy(&fine.stdout).contains("store  works"));
    assert!(!folder.path().join("duologue.db").exists());

    let missing = check(&[("DATABASE_URL", "sqlite:no/such/folder/d.db")]).await;
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    let table = String::from_utf8_lossy(&missing.stdout);
    assert!(table.contains("does its folder exist"), "{table}");

    let wrong = check(&[("PORT", "eighty")]).await;
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
}

/// As a container's health check runs it: the same variables, another process. The address that it
/// binds may be "every interface", which is no place to go to.
#[tokio::test]
async fn health_tells_a_server_that_is_alive_from_none() {
    let allowed = ("DUOLOGUE_AUTH__ALLOW_ANONYMOUS", "true");
    let server = ServerProcess::start_with(&[("HOST", "0.0.0.0"), allowed]).await;
    let port = server.address().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let variables = [("HOST", "0.0.0.0"), ("PORT", port.as_str())];
    let alive = run_to_end(folder.path(), &["health"], &variables).await;
    assert_eq!(alive.status.code(), Some(0), "{alive:?}");
    server.kill().await;
    let dead = run_to_end(folder.path(), &["health"], &variables).await;
    assert_eq!(dead.status.code(), Some(1), "{dead:?}");
    let words = String::from_utf8_lossy(&dead.stderr);
    assert!(words.contains("no server responds at 127.0.0.1"), "{words}");
}
