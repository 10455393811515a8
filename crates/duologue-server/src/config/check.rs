//! Checks of settings: values that contradict each other, and values that make no sense.

mod auth;

use std::net::IpAddr;

use jiff::SignedDuration;
use toml::Value;
use tracing_subscriber::EnvFilter;

use crate::config::{
    auth::AuthMode,
    model::{Endpoint, ModelChoice},
    sections::Config,
    settings::Settings,
    url::is_http_url,
    values::{MORE_THAN_ZERO, duration},
};

/// The keys that may be zero. For all others zero would mean "never" or "nothing".
const ZERO_ALLOWED: [&str; 11] = [
    "auth.leeway",
    "auth.expiry_notice",
    "server.port",
    "server.drain_timeout",
    "socket.write_buffer_bytes",
    "session.resume_grace",
    "session.storage_retry_timeout",
    "generation.retries_max",
    "generation.retry_delay",
    "generation.retry_after_max",
    "model.mock.delay",
];

/// Longer than any useful duration, and short enough that no clock overflows.
const DURATION_MAX: SignedDuration = SignedDuration::from_hours(365 * 24);

/// JSON escapes a control character as six characters.
const JSON_GROWTH: u32 = 6;

/// The maximum size of a frame's other fields.
const FRAME_FIELDS_BYTES: u32 = 4096;

/// All problems of settings whose values could be read.
pub(super) fn all(config: &Config, settings: &Settings) -> Vec<String> {
    let mut problems = order(config, settings);
    problems.extend(frames_fit(config, settings));
    problems.extend(texts(config, settings));
    problems.extend(model_key(config, settings));
    problems.extend(supabase(config, settings));
    problems.extend(auth::all(config, settings));
    problems
}

/// Values that are zero or too large.
pub(super) fn sizes(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    for key in settings.changed() {
        let value = settings.value(key);
        let durations = match (settings.default(key), value) {
            (Value::Array(_), Value::Array(items)) => items.iter().filter_map(duration).collect(),
            (default, value) if duration(default).is_some() => Vec::from_iter(duration(value)),
            _ => Vec::new(),
        };
        let is_zero = match value {
            Value::Integer(number) => *number == 0,
            Value::String(_) => durations.iter().any(SignedDuration::is_zero),
            _ => false,
        };
        if is_zero && !ZERO_ALLOWED.contains(&key) {
            problems.push(format!("{} {MORE_THAN_ZERO}", settings.cite(key)));
        }
        if durations.iter().any(|duration| *duration > DURATION_MAX) {
            problems.push(format!("{} must be at most a year", settings.cite(key)));
        }
    }
    problems
}

/// Pairs of settings, the first of which must be the smaller.
fn order(config: &Config, settings: &Settings) -> Vec<String> {
    let (cluster, jobs) = (&config.cluster, &config.jobs);
    let (generation, socket) = (&config.generation, &config.socket);
    let less_than = [
        (
            cluster.heartbeat_interval < cluster.lease,
            ("cluster.heartbeat_interval", "cluster.lease"),
        ),
        (
            jobs.lease_renewal_interval < jobs.lease,
            ("jobs.lease_renewal_interval", "jobs.lease"),
        ),
        (
            socket.write_buffer_bytes < socket.write_buffer_bytes_max,
            ("socket.write_buffer_bytes", "socket.write_buffer_bytes_max"),
        ),
    ];
    let at_most = [
        (
            generation.first_token_timeout <= generation.total_timeout,
            ("generation.first_token_timeout", "generation.total_timeout"),
        ),
        (
            generation.next_token_timeout <= generation.total_timeout,
            ("generation.next_token_timeout", "generation.total_timeout"),
        ),
    ];
    let less_than = less_than.map(|(holds, pair)| (holds, "less than", pair));
    let at_most = at_most.map(|(holds, pair)| (holds, "at most", pair));
    let rules = less_than.into_iter().chain(at_most);
    let broken = rules.filter(|(holds, ..)| !holds);
    broken
        .map(|(_, relation, (one, other))| settings.must_be(relation, one, other))
        .collect()
}

/// Everything that a session can store can be sent. A frame that is too large for a client's buffer
/// would close its connection, again after each reconnect.
fn frames_fit(config: &Config, settings: &Settings) -> Vec<String> {
    let texts = [
        ("socket.frame_bytes_max", config.socket.frame_bytes_max),
        ("turn.answer_bytes_max", config.turn.answer_bytes_max),
        (
            "turn.tool_result_bytes_max",
            config.turn.tool_result_bytes_max,
        ),
        ("jobs.summary_bytes_max", config.jobs.summary_bytes_max),
    ];
    let buffers = [
        (
            "socket.write_buffer_bytes_max",
            config.socket.write_buffer_bytes_max,
        ),
        ("session.reader_bytes_max", config.session.reader_bytes_max),
    ];
    let mut problems = Vec::new();
    for (buffer, room) in buffers {
        for (text, size) in texts {
            let frame = size
                .saturating_mul(JSON_GROWTH)
                .saturating_add(FRAME_FIELDS_BYTES);
            if frame > room {
                problems.push(format!(
                    "{} must be at least {frame}, so that {} fits in when JSON escapes it",
                    settings.cite(buffer),
                    settings.cite(text),
                ));
            }
        }
    }
    problems
}

/// Texts of a special form.
fn texts(config: &Config, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, allowed: &str| {
        problems.push(format!("{} {allowed}", settings.cite(key)));
    };
    let server = &config.server;
    if server.host.trim().is_empty() || server.host.contains(['/', '@']) {
        refuse("server.host", "must be a host name or an address");
    }
    if !server
        .origins_allowed
        .iter()
        .all(|origin| is_origin(origin))
    {
        refuse(
            "server.origins_allowed",
            "must list origins as browsers send them, such as \"https://app.example.com\": in \
             lower case, with a port only where it is not the scheme's own, and without a path",
        );
    }
    if !server.hosts_allowed.iter().all(|host| is_host(host)) {
        refuse(
            "server.hosts_allowed",
            "must list names or addresses such as \"chat.example.com\": in lower case, without a \
             scheme, a port or a path",
        );
    }
    if EnvFilter::try_new(&config.log.filter).is_err() {
        refuse(
            "log.filter",
            "must be a level (error, warn, info, debug or trace), or several for parts, such as \
             \"info,duologue_store=debug\"",
        );
    }
    problems.extend(urls(config, settings));
    problems
}

fn urls(config: &Config, settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, allowed: &str| {
        problems.push(format!("{} {allowed}", settings.cite(key)));
    };
    let url = settings.value("store.url").as_str().unwrap_or_default();
    let schemes = ["sqlite:", "postgres://", "postgresql://"];
    if url != "auto" && !schemes.iter().any(|scheme| url.starts_with(scheme)) {
        refuse(
            "store.url",
            "must be `auto`, or begin with `sqlite:`, `postgres://` or `postgresql://`",
        );
    }
    let supabase_url = &config.store.supabase_url;
    if !supabase_url.is_empty() && !is_http_url(supabase_url) {
        refuse(
            "store.supabase_url",
            "must be the URL of a project, such as \"https://abcdefgh.supabase.co\"",
        );
    }
    for (key, url) in [
        ("model.openai.base_url", &config.model.openai.base_url),
        ("model.groq.base_url", &config.model.groq.base_url),
    ] {
        if !is_http_url(url) {
            refuse(
                key,
                "must be a URL that begins with `https://` or `http://`, without a user's name",
            );
        }
    }
    problems
}

fn is_origin(text: &str) -> bool {
    let has_path = text.splitn(4, '/').count() > 3;
    let default_port = [("https://", ":443"), ("http://", ":80")];
    is_http_url(text)
        && !has_path
        && !text.contains(['?', '#', '*'])
        && text == text.to_ascii_lowercase()
        && !default_port
            .iter()
            .any(|(scheme, port)| text.starts_with(scheme) && text.ends_with(port))
}

/// Whether it is a name or an address as in `Host`, without the port and the brackets of IPv6.
fn is_host(text: &str) -> bool {
    let is_name = text
        .bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_'));
    !text.is_empty()
        && (is_name
            || text
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.to_string() == text))
}

/// A provider that is chosen by name needs its key, unless the endpoint is not the default one.
fn model_key(config: &Config, settings: &Settings) -> Option<String> {
    let ModelChoice::Endpoint(endpoint, endpoint_config) = config.model.choice() else {
        return None;
    };
    let (key, base_url, variable) = match endpoint {
        Endpoint::OpenAi => (
            "model.openai.api_key",
            "model.openai.base_url",
            "OPENAI_API_KEY",
        ),
        Endpoint::Groq => ("model.groq.api_key", "model.groq.base_url", "GROQ_API_KEY"),
    };
    let is_own_endpoint = settings.value(base_url) != settings.default(base_url);
    if endpoint_config.has_key() || is_own_endpoint {
        return None;
    }
    let provider = settings.cite("model.provider");
    Some(format!(
        "{provider} needs a key, and `{key}` is empty; set {variable}"
    ))
}

/// Refuses half of the settings of Supabase's REST interface: the data would go to another store.
fn supabase(config: &Config, settings: &Settings) -> Option<String> {
    let needed = [
        ("store.supabase_url", "SUPABASE_URL"),
        ("store.supabase_key", "SUPABASE_SERVICE_ROLE_KEY"),
    ];
    let (set, missing): (Vec<_>, Vec<_>) = needed
        .into_iter()
        .partition(|(key, _)| settings.value(key).as_str() != Some(""));
    let schema = "store.supabase_schema";
    let given = set.first().map(|(key, _)| *key);
    let has_schema = settings.value(schema) != settings.default(schema);
    let given = given.or(has_schema.then_some(schema))?;
    if !config.store.is_auto() || missing.is_empty() {
        return None;
    }
    // The URL alone is enough to know the project's users; sessions can be elsewhere.
    let is_for_users = config.auth.mode == AuthMode::Supabase && set.len() == 1 && !has_schema;
    if is_for_users && given == "store.supabase_url" {
        return None;
    }
    let missing: Vec<_> = missing
        .iter()
        .map(|(key, variable)| format!("`{key}` ({variable})"))
        .collect();
    let (given, missing) = (settings.cite(given), missing.join(" and "));
    Some(format!(
        "{given} is set without {missing}; set all of them to store sessions through Supabase's \
         REST interface, or SUPABASE_DB_URL to connect to its database, or none to store them in a \
         SQLite file"
    ))
}
