//! The files that deploy the server say nothing that the server does not understand.
//!
//! No vendor is asked. What is read here is what a vendor would pass on: variables, commands, and
//! how long a server may take to stop. That each file is well formed is seen by reading it, with as
//! much of its format as ours use.

mod file;

use std::{collections::BTreeSet, path::Path};

use clap::Parser;
use duologue_server::{
    cli::Cli,
    config::{self, AuthMode, Environment},
};
use toml::Table;

use crate::file::{backticked, compose_environment, dockerfile, exec_form, root, text, yaml_lines};

/// Variables of the files themselves, which never reach the server.
const OF_THE_FILES: [&str; 1] = ["POSTGRES_PASSWORD"];

/// A value that the variable could have.
fn sample(name: &str) -> &'static str {
    match name {
        "HOST" => "0.0.0.0",
        "PORT" => "8000",
        "RUST_LOG" => "debug",
        "DATABASE_URL" | "SUPABASE_DB_URL" => "postgres://ann:secret@db.example/chat",
        "DUOLOGUE_STORE__URL" => "sqlite:/data/duologue.db",
        "DUOLOGUE_MODEL__PROVIDER" => "mock",
        "DUOLOGUE_SERVER__ORIGINS_ALLOWED" => "https://app.example.com",
        "SUPABASE_URL" => "https://abcdefgh.supabase.co",
        "DUOLOGUE_SERVER__DRAIN_TIMEOUT" => "20s",
        "DUOLOGUE_STORE__CONNECTIONS_MAX" => "5",
        name if name.ends_with("_BASE_URL") => "https://model.example/v1",
        _ => "x",
    }
}

/// Whether a variable means anything to the server: it sets a key, or it is refused by name.
fn is_known(name: &str) -> bool {
    let environment = Environment::new([(name, sample(name))], []);
    match config::load(None, &environment, Vec::new()) {
        Ok(loaded) => loaded
            .settings
            .to_string()
            .lines()
            .any(|line| line.ends_with(&format!("# from {name}"))),
        Err(error) if error.to_string().contains("unknown key") => false,
        Err(error) => name == "DUOLOGUE_CONFIG" || error.to_string().contains(name),
    }
}

fn fly() -> Table {
    text("fly.toml").parse().expect("fly.toml is TOML")
}

fn render_variables() -> Vec<(String, Option<String>)> {
    let mut variables: Vec<(String, Option<String>)> = Vec::new();
    for line in yaml_lines("render.yaml") {
        if let Some(name) = line.trim().strip_prefix("- key: ") {
            variables.push((name.to_owned(), None));
        } else if let Some(value) = line.trim().strip_prefix("value: ") {
            let (_, of) = variables.last_mut().expect("a value follows its key");
            *of = Some(value.trim_matches('"').to_owned());
        }
    }
    variables
}

#[test]
fn a_variable_that_nothing_reads_is_told_from_the_others() {
    for known in ["PORT", "SUPABASE_URL", "DUOLOGUE_CONFIG", "GROQ_API_KEY"] {
        assert!(is_known(known), "{known}");
    }
    for unknown in ["PORTS", "DUOLOGUE_SERVER__PROT", "SUPABASE_DB", "HOSTNAME"] {
        assert!(!is_known(unknown), "{unknown}");
    }
}

#[test]
fn every_variable_that_is_set_or_asked_for_is_one_that_the_server_reads() {
    let image = dockerfile("ENV").into_iter().flat_map(|line| {
        let pairs = line
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    });
    let fly = fly();
    let fly = fly["env"].as_table().expect("[env] is a table");
    let compose = ["duologue", "migrate"].map(compose_environment);
    let compose = compose.concat();
    let named = backticked("docs/deploy.md");
    let mut seen = BTreeSet::new();
    for (file, names) in [
        ("Dockerfile", image.collect::<Vec<_>>()),
        ("fly.toml", fly.keys().cloned().collect()),
        (
            "compose.yaml",
            compose.into_iter().map(|(name, _)| name).collect(),
        ),
        (
            "render.yaml",
            render_variables()
                .into_iter()
                .map(|(name, _)| name)
                .collect(),
        ),
        ("docs/deploy.md", named),
    ] {
        assert!(!names.is_empty(), "{file} names no variable");
        for name in names {
            let is_of_the_files = OF_THE_FILES.contains(&name.as_str());
            assert!(is_of_the_files || is_known(&name), "{file}: {name}");
            seen.insert(name);
        }
    }
    assert!(seen.contains("SUPABASE_DB_URL"), "{seen:?}");
}

/// The vendors' files bind to all addresses, on the port to which they send requests.
#[test]
fn what_the_files_set_makes_a_server_that_can_be_reached() {
    let fly_file = fly();
    let fly = fly_file["env"].as_table().expect("[env] is a table");
    let fly: Vec<_> = fly
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned()))
        .collect();
    let render = render_variables();
    let render: Vec<_> = render
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect();
    for (file, mut variables) in [("fly.toml", fly), ("render.yaml", render)] {
        // Asked for, or among the secrets.
        variables.push(("SUPABASE_URL".into(), sample("SUPABASE_URL").into()));
        let environment = Environment::new(variables, []);
        let loaded = config::load(None, &environment, Vec::new()).unwrap();
        assert_eq!(loaded.warnings, [""; 0], "{file}");
        assert_eq!(loaded.config.server.host, "0.0.0.0", "{file}");
        assert_eq!(loaded.config.server.port, 8000, "{file}");
        // Otherwise it would not start there.
        assert_eq!(loaded.config.auth.mode, AuthMode::Supabase, "{file}");
        assert!(!loaded.config.auth.allow_anonymous, "{file}");
    }
    let port = fly_file["http_service"]["internal_port"].as_integer();
    assert_eq!(port, Some(8000));
    // Only this machine may reach what Compose starts, because authentication is disabled there.
    let published: Vec<_> = yaml_lines("compose.yaml")
        .into_iter()
        .filter(|line| line.trim().ends_with(":8000\""))
        .collect();
    assert_eq!(published, [r#"      - "127.0.0.1:8000:8000""#]);
}

/// `${NAME:-}` leaves an unset variable empty, which must count as unset.
#[test]
fn compose_serves_from_its_own_database_whatever_else_is_unset() {
    let variables = compose_environment("duologue").into_iter();
    let variables = variables.map(|(name, value)| {
        let value = value.replace("${POSTGRES_PASSWORD:-duologue}", "duologue");
        let value = value.trim_matches('"').to_owned();
        (
            name,
            if value.starts_with("${") {
                String::new()
            } else {
                value
            },
        )
    });
    let environment = Environment::new(variables, []);
    let loaded = config::load(None, &environment, Vec::new()).unwrap();
    assert_eq!(
        loaded.config.store.describe(),
        "Postgres, postgres:5432/duologue"
    );
    assert!(loaded.config.model.choice().to_string().starts_with("mock"));
    assert!(
        loaded.config.auth.allow_anonymous,
        "it starts in its container"
    );
    assert_eq!(
        compose_environment("migrate")[0],
        compose_environment("duologue")[0],
        "both use one database"
    );
}

#[test]
fn every_command_that_is_run_is_one_that_the_program_has() {
    let fly = fly();
    let release = fly["deploy"]["release_command"].as_str().expect("a text");
    let service = text("deploy/duologue.service");
    let mut commands = vec![
        release.to_owned(),
        exec_form(&dockerfile("CMD")[0]),
        exec_form(&dockerfile("HEALTHCHECK")[0]),
        exec_form(&compose_line("command:")),
    ];
    for line in service.lines().filter(|line| line.starts_with("Exec")) {
        let (_, command) = line.split_once('=').expect("it is set");
        commands.push(command.to_owned());
    }
    assert_eq!(commands.len(), 6);
    for command in commands {
        let words = command.split_whitespace();
        let words = words.filter(|word| !word.ends_with("/duologue"));
        let line = ["duologue"].into_iter().chain(words);
        Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{command}: {error}"));
    }
    assert_eq!(exec_form(&dockerfile("ENTRYPOINT")[0]), "/duologue");
}

fn compose_line(begin: &str) -> String {
    let lines = yaml_lines("compose.yaml").into_iter();
    let mut found = lines.filter(|line| line.trim().starts_with(begin));
    found.next().expect("compose.yaml has such a line")
}

/// Running answers may finish; an earlier kill would cut them short.
#[test]
fn nobody_kills_the_server_before_it_is_done() {
    let environment = Environment::default();
    let defaults = config::load(None, &environment, Vec::new()).unwrap();
    let needed = defaults.config.server.drain_timeout.as_secs() + 5;
    let fly = fly();
    let service = text("deploy/duologue.service");
    let service = service.lines().find(|line| line.starts_with("TimeoutStop"));
    let render = yaml_lines("render.yaml").into_iter();
    let mut render = render.filter(|line| line.contains("maxShutdownDelaySeconds"));
    for (file, line) in [
        ("fly.toml", fly["kill_timeout"].to_string()),
        ("compose.yaml", compose_line("stop_grace_period:")),
        ("duologue.service", service.unwrap_or_default().to_owned()),
        ("render.yaml", render.next().unwrap_or_default()),
    ] {
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        let seconds: u64 = digits.parse().unwrap_or(0);
        assert!(seconds >= needed, "{file}: {line}");
    }
}

/// The image is built from what the ignore file lets through, by the compiler that the workspace
/// asks for, and runs as nobody in particular.
#[test]
fn the_image_is_built_from_files_that_exist_and_runs_without_rights() {
    let ignored = text(".dockerignore");
    let allowed: Vec<_> = ignored
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .collect();
    for path in &allowed {
        assert!(Path::new(&root()).join(path).exists(), "{path}");
    }
    for needed in [
        "Cargo.toml",
        "Cargo.lock",
        "config",
        "crates",
        "web",
        "xtask",
    ] {
        assert!(allowed.contains(&needed), "{needed}");
    }
    let manifest: Table = text("Cargo.toml").parse().unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"].as_str();
    let from = dockerfile("FROM");
    let [build, last] = from.as_slice() else {
        panic!("the image has two stages: {from:?}");
    };
    let rust = format!("rust:{}-", rust.expect("a text"));
    assert!(build.starts_with(&rust), "{build}");
    assert_eq!(last, "scratch");
    assert_eq!(dockerfile("USER"), ["65532:65532"]);
}
