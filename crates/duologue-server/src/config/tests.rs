//! Every key, every name, every order, and every message.

use std::fs;

use duologue_engine::limits::RetryDelay;
use secrecy::ExposeSecret;
use toml::Value;

use super::*;

mod auth;

type Pairs<'a> = &'a [(&'a str, &'a str)];

/// The port to expect of a file, `.env`, the process's variables and flags.
type Layers<'a> = (u16, Option<&'a Path>, Pairs<'a>, Pairs<'a>, Vec<FlagValue>);

fn environment(process: Pairs<'_>) -> Environment {
    Environment::new(process.iter().copied(), [])
}

fn load_variables(process: Pairs<'_>) -> Result<Loaded, ConfigError> {
    load(None, &environment(process), Vec::new())
}

/// Goal: no message and no table shows credentials, in whatever setting a URL stands. Method: set each
/// text and list to a URL with marks in all places, and see what `duologue config` and the errors say.
#[test]
fn credentials_in_urls_are_shown_neither_by_the_settings_nor_by_errors() {
    let url = "https://ann:canary@a.example/v1?api-key=canary&pwd=canary#canary";
    let defaults = Settings::defaults();
    for key in defaults.keys() {
        let default = defaults.value(&key);
        if !default.is_str() && !default.is_array() {
            continue;
        }
        let name = format!("DUOLOGUE_{}", key.replace('.', "__").to_uppercase());
        let text = match load_variables(&[(&name, url)]) {
            Ok(loaded) => format!("{}\n{:?}", loaded.settings, loaded.warnings),
            Err(error) => error.to_string(),
        };
        assert!(!text.contains("canary"), "{key}: {text}");
    }
}

/// Everything that is wrong with a file, by its text.
fn wrong_file(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("duologue.toml");
    fs::write(&path, text).unwrap();
    let error = load(Some(&path), &environment(&[]), Vec::new()).unwrap_err();
    let directory = format!("{}/", directory.path().display());
    error.to_string().replace(&directory, "")
}

fn wrong_variables(process: Pairs<'_>) -> String {
    load_variables(process).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_complete_and_fit_together() {
    let loaded = load_variables(&[]).unwrap();
    let config = loaded.config;
    assert_eq!(config.server.port, 8000);
    assert_eq!(config.session.resume_grace.as_secs(), 30);
    assert_eq!(config.jobs.retry_delays.len(), 8);
    assert_eq!(config.agent.file, None);
    assert!(matches!(config.model.choice(), ModelChoice::Mock(_)));
    assert!(loaded.warnings.is_empty());
}

/// What a value of another kind breaks shows that the key is read, and its message names the key.
#[test]
fn every_key_is_read_and_can_be_set_by_its_variable() {
    let settings = Settings::defaults();
    for key in settings.keys() {
        let name = format!("DUOLOGUE_{}", key.replace('.', "__").to_uppercase());
        let default = settings.value(&key);
        let text = match default {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        // Setting a key to its own default changes nothing, but where it came from.
        if !text.is_empty() {
            let loaded = load_variables(&[(&name, &text)]).unwrap();
            assert_eq!(loaded.settings.value(&key), default, "{name}");
            let source = Source::Variable(name.clone());
            assert_eq!(loaded.settings.source(&key), Some(&source), "{name}");
        }
        if !default.is_str() && !default.is_array() {
            let error = wrong_variables(&[(&name, "nonsense")]);
            assert!(error.contains(&format!("`{key}`")), "{error}");
            assert!(error.contains(&name), "{error}");
        }
    }
}

/// One key, set in more and more places: each place wins over those before it.
#[test]
fn later_layers_win_over_earlier_ones() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("duologue.toml");
    fs::write(&file, "[server]\nport = 1").unwrap();
    let flag = FlagValue {
        flag: "--port",
        key: "server.port",
        value: 7.into(),
    };
    let ours = ("DUOLOGUE_SERVER__PORT", "3");
    let cases: [Layers<'_>; 7] = [
        (8000, None, &[], &[], vec![]),
        (1, Some(&file), &[], &[], vec![]),
        (2, Some(&file), &[("PORT", "2")], &[], vec![]),
        (3, Some(&file), &[("PORT", "2"), ours], &[], vec![]),
        (4, Some(&file), &[ours], &[("PORT", "4")], vec![]),
        (
            5,
            Some(&file),
            &[ours],
            &[("PORT", "4"), ("DUOLOGUE_SERVER__PORT", "5")],
            vec![],
        ),
        (7, Some(&file), &[ours], &[("PORT", "4")], vec![flag]),
    ];
    for (port, file, dot_env, process, flags) in cases {
        let environment = Environment::new(process.iter().copied(), dot_env.iter().copied());
        let loaded = load(file, &environment, flags).unwrap();
        assert_eq!(loaded.config.server.port, port);
    }
}

#[test]
fn the_configuration_file_can_be_named_by_a_variable_and_the_flag_wins() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, port: u16| {
        let path = directory.path().join(name);
        fs::write(&path, format!("[server]\nport = {port}")).unwrap();
        path
    };
    let (named, flagged) = (path("named.toml", 1), path("flagged.toml", 2));
    let environment = environment(&[("DUOLOGUE_CONFIG", named.to_str().unwrap())]);
    let port = |file| {
        let loaded = load(file, &environment, Vec::new()).unwrap();
        loaded.config.server.port
    };
    assert_eq!(port(None), 1);
    assert_eq!(port(Some(flagged.as_path())), 2);
}

#[test]
fn each_familiar_name_sets_its_key() {
    for (name, key, text) in [
        ("HOST", "server.host", "0.0.0.0"),
        ("PORT", "server.port", "9000"),
        ("DATABASE_URL", "store.url", "postgres://a/b"),
        ("SUPABASE_DB_URL", "store.url", "postgresql://a/b"),
        ("OPENAI_API_KEY", "model.openai.api_key", "sk-1"),
        ("OPENAI_MODEL", "model.openai.model", "gpt-5"),
        ("OPENAI_BASE_URL", "model.openai.base_url", "http://a:1/v1"),
        ("GROQ_API_KEY", "model.groq.api_key", "gsk-1"),
        ("GROQ_MODEL", "model.groq.model", "qwen"),
        ("GROQ_BASE_URL", "model.groq.base_url", "https://a/v1"),
        ("SUPABASE_JWT_SECRET", "auth.jwt_secret", "s"),
        ("RUST_LOG", "log.filter", "debug"),
    ] {
        let settings = load_variables(&[(name, text)]).unwrap().settings;
        let value = match settings.value(key) {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(value, text, "{name}");
        assert_eq!(settings.changed().collect::<Vec<_>>(), [key], "{name}");
    }
}

#[test]
fn supabases_database_wins_over_another() {
    let both = [
        ("SUPABASE_DB_URL", "postgres://supabase/db"),
        ("DATABASE_URL", "postgres://other/db"),
    ];
    let config = load_variables(&both).unwrap().config;
    assert_eq!(config.store.url.expose_secret(), "postgres://supabase/db");
}

#[test]
fn empty_values_count_as_unset() {
    let empty = [("PORT", ""), ("OPENAI_API_KEY", " "), ("SUPABASE_URL", "")];
    let loaded = load_variables(&empty).unwrap();
    assert_eq!(loaded.settings.changed().count(), 0);
}

#[test]
fn lists_may_be_separated_by_commas_or_written_as_in_a_file() {
    for text in [
        "https://a.example, http://b.example:81",
        r#"["https://a.example", "http://b.example:81"]"#,
    ] {
        let name = "DUOLOGUE_SERVER__ORIGINS_ALLOWED";
        let config = load_variables(&[(name, text)]).unwrap().config;
        let expected = ["https://a.example", "http://b.example:81"];
        assert_eq!(config.server.origins_allowed, expected);
    }
    let name = "DUOLOGUE_JOBS__RETRY_DELAYS";
    let config = load_variables(&[(name, "1s,2m")]).unwrap().config;
    let seconds = config.jobs.retry_delays.iter();
    let seconds: Vec<u64> = seconds.map(|RetryDelay(wait)| wait.as_secs()).collect();
    assert_eq!(seconds, [1, 120]);
}

#[test]
fn the_first_provider_with_a_key_answers_unless_one_is_named() {
    let answers = |process: Pairs<'_>| match load_variables(process).unwrap().config.model.choice()
    {
        ModelChoice::Endpoint(Endpoint::OpenAi, _) => "openai",
        ModelChoice::Endpoint(Endpoint::Groq, _) => "groq",
        ModelChoice::Mock(_) => "mock",
    };
    let openai = ("OPENAI_API_KEY", "sk-1");
    let groq = ("GROQ_API_KEY", "gsk-1");
    let provider = |name| ("DUOLOGUE_MODEL__PROVIDER", name);
    assert_eq!(answers(&[]), "mock");
    assert_eq!(answers(&[groq]), "groq");
    assert_eq!(answers(&[groq, openai]), "openai");
    assert_eq!(answers(&[groq, openai, provider("groq")]), "groq");
    assert_eq!(answers(&[openai, provider("mock")]), "mock");
    let own = ("OPENAI_BASE_URL", "http://127.0.0.1:11434/v1");
    assert_eq!(answers(&[own, provider("openai")]), "openai");
}

#[test]
fn the_settings_in_force_are_printed_with_their_sources_and_without_secrets() {
    let process = [
        ("PORT", "9000"),
        ("OPENAI_API_KEY", "sk-canary"),
        ("DATABASE_URL", "postgres://ann:canary@db.example/chat"),
    ];
    let loaded = load_variables(&process).unwrap();
    let text = loaded.settings.to_string();
    let changed: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("from") || line.starts_with("# The"))
        .collect();
    insta::assert_snapshot!(changed.join("\n"), @r#"
    # The effective settings. Values that are not defaults have their source.
    port = 9000  # from PORT
    url = "postgres://[redacted]@db.example/chat"  # from DATABASE_URL
    api_key = "[redacted]"  # from OPENAI_API_KEY
    "#);
    for shown in [text.clone(), format!("{loaded:?}")] {
        assert!(!shown.contains("canary"), "{shown}");
    }
    // It is TOML, with the same keys in the same order.
    let table: toml::Table = text.parse().unwrap();
    let defaults = Settings::defaults().to_string().parse().unwrap();
    assert_eq!(
        table.keys().collect::<Vec<_>>(),
        toml::Table::keys(&defaults).collect::<Vec<_>>()
    );
}

#[test]
fn everything_wrong_is_named_at_once_by_key_source_and_what_is_allowed() {
    let process = [
        ("PORT", "eighty"),
        ("DUOLOGUE_SERVER__PROT", "1"),
        ("DUOLOGUE_SEVER__PORT", "1"),
        ("DUOLOGUE_MODEL__OPENAI", "x"),
        ("DUOLOGUE_MODEL__MOCK__DIRECTIVES", "yes"),
        ("DUOLOGUE_SERVER__HEADERS_MAX", "70000"),
        ("DUOLOGUE_SOCKET__FRAMES", "xml"),
        ("DUOLOGUE_SESSION__RESUME_GRACE", "30"),
        ("DUOLOGUE_SESSION__IDLE_TIMEOUT", "0s"),
        ("DUOLOGUE_STORE__BATCH_MAX", "0"),
        ("DUOLOGUE_TURN__TOOL_TIMEOUT", "999999h"),
        ("DUOLOGUE_JOBS__RETRY_DELAYS", "5,30"),
    ];
    insta::assert_snapshot!(wrong_variables(&process), @r#"
    the configuration cannot be used
      - `server.port` = "eighty" (from PORT) must be a whole number
      - `model.mock.directives` = "yes" (from DUOLOGUE_MODEL__MOCK__DIRECTIVES) must be true or false
      - `model.openai` (from DUOLOGUE_MODEL__OPENAI) is a section, not a value; its keys are api_key, model, base_url, usage_in_stream, output_tokens_field, connect_timeout, connections_max, idle_connections_max, sse_line_bytes_max
      - unknown key `server.prot` (from DUOLOGUE_SERVER__PROT); [server] has host, port, drain_timeout, header_read_timeout, header_bytes_max, headers_max, connections_max, core_dumps, origins_allowed, hosts_allowed, proxies_trusted
      - unknown key `sever.port` (from DUOLOGUE_SEVER__PORT); the sections are server, auth, socket, cluster, session, limits, turn, generation, jobs, store, model, agent, log
      - `session.idle_timeout` = "0s" (from DUOLOGUE_SESSION__IDLE_TIMEOUT) must be more than zero
      - `store.batch_max` = 0 (from DUOLOGUE_STORE__BATCH_MAX) must be more than zero
      - `turn.tool_timeout` = "999999h" (from DUOLOGUE_TURN__TOOL_TIMEOUT) must be at most a year
      - `jobs.retry_delays` = ["5", "30"] (from DUOLOGUE_JOBS__RETRY_DELAYS) must be a list of durations, such as ["30s", "2m"]
      - `server.headers_max` = 70000 (from DUOLOGUE_SERVER__HEADERS_MAX) must be from 0 to 65535
      - `session.resume_grace` = "30" (from DUOLOGUE_SESSION__RESUME_GRACE) must be a duration, such as "500ms", "30s" or "2h"
      - `socket.frames` = "xml" (from DUOLOGUE_SOCKET__FRAMES) cannot be used: unknown variant `xml`, expected `json` or `text`
    "#);
}

#[test]
fn values_that_do_not_fit_together_are_named_in_pairs() {
    let process = [
        ("DUOLOGUE_CLUSTER__LEASE", "1s"),
        ("DUOLOGUE_JOBS__LEASE_RENEWAL_INTERVAL", "2m"),
        ("DUOLOGUE_GENERATION__TOTAL_TIMEOUT", "25s"),
        ("DUOLOGUE_SOCKET__WRITE_BUFFER_BYTES", "2000000"),
        ("DUOLOGUE_TURN__ANSWER_BYTES_MAX", "200000"),
    ];
    insta::assert_snapshot!(wrong_variables(&process), @r#"
    the configuration cannot be used
      - `cluster.heartbeat_interval` = "1s" (the default) must be less than `cluster.lease` = "1s" (from DUOLOGUE_CLUSTER__LEASE)
      - `jobs.lease_renewal_interval` = "2m" (from DUOLOGUE_JOBS__LEASE_RENEWAL_INTERVAL) must be less than `jobs.lease` = "60s" (the default)
      - `socket.write_buffer_bytes` = 2000000 (from DUOLOGUE_SOCKET__WRITE_BUFFER_BYTES) must be less than `socket.write_buffer_bytes_max` = 1048576 (the default)
      - `generation.next_token_timeout` = "30s" (the default) must be at most `generation.total_timeout` = "25s" (from DUOLOGUE_GENERATION__TOTAL_TIMEOUT)
      - `socket.write_buffer_bytes_max` = 1048576 (the default) must be at least 1204096, so that `turn.answer_bytes_max` = 200000 (from DUOLOGUE_TURN__ANSWER_BYTES_MAX) fits in when JSON escapes it
      - `session.reader_bytes_max` = 1048576 (the default) must be at least 1204096, so that `turn.answer_bytes_max` = 200000 (from DUOLOGUE_TURN__ANSWER_BYTES_MAX) fits in when JSON escapes it
    "#);
}

#[test]
fn texts_that_have_a_form_are_held_to_it() {
    let process = [
        ("DUOLOGUE_SERVER__ORIGINS_ALLOWED", "https://a.example/"),
        ("DATABASE_URL", "mysql://ann:canary@a/b"),
        ("OPENAI_BASE_URL", "api.openai.com"),
        ("GROQ_BASE_URL", "https://ann:canary@a/v1"),
        ("RUST_LOG", "a=b=c"),
    ];
    insta::assert_snapshot!(wrong_variables(&process), @r#"
    the configuration cannot be used
      - `server.origins_allowed` = ["https://a.example/"] (from DUOLOGUE_SERVER__ORIGINS_ALLOWED) must list origins as browsers send them, such as "https://app.example.com": in lower case, with a port only where it is not the scheme's own, and without a path
      - `log.filter` = "a=b=c" (from RUST_LOG) must be a level (error, warn, info, debug or trace), or several for parts, such as "info,duologue_store=debug"
      - `store.url` = "mysql://[redacted]@a/b" (from DATABASE_URL) must be `auto`, or begin with `sqlite:`, `postgres://` or `postgresql://`
      - `model.openai.base_url` = "api.openai.com" (from OPENAI_BASE_URL) must be a URL that begins with `https://` or `http://`, without a user's name
      - `model.groq.base_url` = "https://[redacted]@a/v1" (from GROQ_BASE_URL) must be a URL that begins with `https://` or `http://`, without a user's name
    "#);
}

#[test]
fn a_provider_that_is_named_needs_its_key_unless_the_endpoint_is_ones_own() {
    let groq = ("DUOLOGUE_MODEL__PROVIDER", "groq");
    let error = wrong_variables(&[groq]);
    assert!(error.contains("set GROQ_API_KEY"), "{error}");
    let own = ("GROQ_BASE_URL", "http://127.0.0.1:8080/v1");
    assert!(load_variables(&[groq, own]).is_ok());
}

#[test]
fn an_origin_is_what_browsers_send() {
    let is_allowed =
        |origin| load_variables(&[("DUOLOGUE_SERVER__ORIGINS_ALLOWED", origin)]).is_ok();
    for good in [
        "https://a.example",
        "http://localhost:3000",
        "http://[::1]:1",
    ] {
        assert!(is_allowed(good), "{good}");
    }
    for bad in [
        "*",
        "null",
        "a.example",
        "https://*.example",
        "https://a.example/",
        "https://A.example",
        "https://a.example:443",
        "https://u@a.example",
        "ws://a.example",
    ] {
        assert!(!is_allowed(bad), "{bad}");
    }
}

#[test]
fn hosts_are_names_without_a_port_and_proxies_are_addresses_or_networks() {
    let is_allowed = |name: &str, text: &str| load_variables(&[(name, text)]).is_ok();
    let hosts = "DUOLOGUE_SERVER__HOSTS_ALLOWED";
    for good in ["chat.example.com", "chat.example.com, 10.1.2.3", "fd00::1"] {
        assert!(is_allowed(hosts, good), "{good}");
    }
    for bad in [
        "https://a.example",
        "a.example:8000",
        "A.example",
        "*.example",
        "[fd00::1]",
    ] {
        assert!(!is_allowed(hosts, bad), "{bad}");
    }
    let proxies = "DUOLOGUE_SERVER__PROXIES_TRUSTED";
    for good in ["10.0.0.0/8, 127.0.0.1", "fd00::/8", "::1"] {
        assert!(is_allowed(proxies, good), "{good}");
    }
    for bad in ["10.0.0.0/33", "proxy.example", "10.0.0", "all"] {
        assert!(!is_allowed(proxies, bad), "{bad}");
    }
    let error = load_variables(&[(proxies, "10.0.0.0/33")])
        .unwrap_err()
        .to_string();
    assert!(error.contains("server.proxies_trusted"), "{error}");
    assert!(error.contains("10.0.0.0/33"), "{error}");
}

#[test]
fn a_file_is_held_to_the_same_rules() {
    let text = "
        [server]
        port = \"8000\"
        prot = 1
        origins_allowed = [1]
        [sever]
        port = 1
        [model]
        openai = 5
        [model.groq]
        api_key = 12345
    ";
    insta::assert_snapshot!(wrong_file(text), @r#"
    the configuration cannot be used
      - `server.port` = "8000" (from duologue.toml) must be a whole number
      - unknown key `server.prot` (from duologue.toml); [server] has host, port, drain_timeout, header_read_timeout, header_bytes_max, headers_max, connections_max, core_dumps, origins_allowed, hosts_allowed, proxies_trusted
      - `server.origins_allowed` = [1] (from duologue.toml) must be a list of strings
      - unknown key `sever` (from duologue.toml); the sections are server, auth, socket, cluster, session, limits, turn, generation, jobs, store, model, agent, log
      - `model.openai` (from duologue.toml) is a section, not a value; its keys are api_key, model, base_url, usage_in_stream, output_tokens_field, connect_timeout, connections_max, idle_connections_max, sse_line_bytes_max
      - `model.groq.api_key` = "[redacted]" (from duologue.toml) must be a string
    "#);
}

#[test]
fn a_file_that_is_no_toml_is_named_by_line_and_not_quoted() {
    let error = wrong_file("[model.openai]\napi_key = \"canary\n");
    assert!(error.contains("duologue.toml, line 2"), "{error}");
    assert!(!error.contains("canary"), "{error}");

    let missing = Path::new("no/such/duologue.toml");
    let error = load(Some(missing), &environment(&[]), Vec::new()).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("no/such/duologue.toml cannot be read"),
        "{error}"
    );
}

#[test]
fn supabases_rest_interface_is_used_if_its_names_are_set_and_no_database_is() {
    let rest = [
        ("SUPABASE_URL", "https://abc.supabase.co"),
        ("SUPABASE_SERVICE_ROLE_KEY", "sb_secret_canary"),
        ("SUPABASE_SCHEMA", "chat"),
    ];
    let loaded = load_variables(&rest).unwrap();
    let described = loaded.config.store.describe();
    assert_eq!(described, "Supabase REST, abc.supabase.co, schema chat");
    let shown = loaded.settings.to_string();
    assert!(!shown.contains("canary"), "{shown}");

    let database = ("SUPABASE_DB_URL", "postgres://a/b");
    let all: Vec<_> = rest.into_iter().chain([database]).collect();
    let described = load_variables(&all).unwrap().config.store.describe();
    assert_eq!(described, "Postgres, a:5432/b");
    let described = load_variables(&[]).unwrap().config.store.describe();
    assert_eq!(described, "SQLite, duologue.db");
}

#[test]
fn half_of_what_supabases_rest_interface_needs_stops_the_start() {
    let error = wrong_variables(&[("SUPABASE_SERVICE_ROLE_KEY", "canary")]);
    insta::assert_snapshot!(error, @r#"
    the configuration cannot be used
      - `store.supabase_key` = "[redacted]" (from SUPABASE_SERVICE_ROLE_KEY) is set without `store.supabase_url` (SUPABASE_URL); set all of them to store sessions through Supabase's REST interface, or SUPABASE_DB_URL to connect to its database, or none to store them in a SQLite file
    "#);
    for (name, value, missing) in [
        (
            "SUPABASE_URL",
            "https://a.test",
            "SUPABASE_SERVICE_ROLE_KEY",
        ),
        ("SUPABASE_SCHEMA", "chat", "SUPABASE_URL"),
        ("SUPABASE_SCHEMA", "chat", "SUPABASE_SERVICE_ROLE_KEY"),
    ] {
        let error = wrong_variables(&[(name, value)]);
        assert!(error.contains(name) && error.contains(missing), "{error}");
        let database = ("SUPABASE_DB_URL", "postgres://a/b");
        assert!(load_variables(&[(name, value), database]).is_ok());
    }
    let error = wrong_variables(&[("SUPABASE_URL", "abc.supabase.co")]);
    assert!(error.contains("must be the URL of a project"), "{error}");
}

#[test]
fn what_looks_like_a_mistake_is_warned_of() {
    let warnings = |process: Pairs<'_>| load_variables(process).unwrap().warnings.join("\n");
    let text = warnings(&[("DUOLOGUE_SERVER_PORT", "9000")]);
    assert!(
        text.contains("did you mean DUOLOGUE_SERVER__PORT?"),
        "{text}"
    );
    // Kubernetes sets these for services called `duologue` and `duologue-server`.
    for name in ["DUOLOGUE_PORT", "DUOLOGUE_SERVER_PORT"] {
        assert_eq!(warnings(&[(name, "tcp://10.0.0.1:8000")]), "");
    }
    let database = ("SUPABASE_DB_URL", "postgres://a/b");
    let text = warnings(&[("SUPABASE_SCHEMA", "chat"), database]);
    assert!(text.contains("SUPABASE_SCHEMA sets nothing"), "{text}");
}
