//! The names of variables: ours, and those that users already have.

use toml::Value;

use crate::config::{Settings, environment::VariableLayer};

/// Names the configuration file. It is no setting itself.
pub(super) const CONFIG_FILE: &str = "DUOLOGUE_CONFIG";

const PREFIX: &str = "DUOLOGUE_";

/// Names that users already have, and the keys they set. Of two for one key the later wins.
pub(super) const FAMILIAR: [(&str, &str); 15] = [
    ("HOST", "server.host"),
    ("PORT", "server.port"),
    ("DATABASE_URL", "store.url"),
    ("SUPABASE_DB_URL", "store.url"),
    ("SUPABASE_URL", "store.supabase_url"),
    ("SUPABASE_SERVICE_ROLE_KEY", "store.supabase_key"),
    ("SUPABASE_SCHEMA", "store.supabase_schema"),
    ("SUPABASE_JWT_SECRET", "auth.jwt_secret"),
    ("OPENAI_API_KEY", "model.openai.api_key"),
    ("OPENAI_MODEL", "model.openai.model"),
    ("OPENAI_BASE_URL", "model.openai.base_url"),
    ("GROQ_API_KEY", "model.groq.api_key"),
    ("GROQ_MODEL", "model.groq.model"),
    ("GROQ_BASE_URL", "model.groq.base_url"),
    ("RUST_LOG", "log.filter"),
];

/// The key that a name of ours sets: `server.port` for `DUOLOGUE_SERVER__PORT`.
///
/// A name without `__` sets nothing. It cannot be refused, since others make such names: for a
/// service called `duologue`, Kubernetes sets `DUOLOGUE_PORT` and a dozen more.
pub(super) fn key_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.contains("__")
        .then(|| rest.replace("__", ".").to_ascii_lowercase())
}

/// Whether a variable of this name means anything to us.
pub(super) fn is_ours(name: &str) -> bool {
    name == CONFIG_FILE
        || key_of(name).is_some()
        || FAMILIAR.iter().any(|(familiar, _)| *familiar == name)
}

/// Warns of names such as `DUOLOGUE_SERVER_PORT`, which lack an underscore to be ours.
pub(super) fn near_misses(layer: &VariableLayer<'_>, settings: &Settings) -> Vec<String> {
    let keys = settings.keys();
    let names = layer.variables.iter().filter_map(|(name, value)| {
        let rest = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
        let is_link_of_kubernetes = value.starts_with("tcp://");
        if rest.contains("__") || is_link_of_kubernetes {
            return None;
        }
        let key = keys.iter().find(|key| key.replace('.', "_") == rest)?;
        let meant = variable_of(key);
        Some(format!("{name} sets nothing; did you mean {meant}?"))
    });
    names.collect()
}

/// The name of ours that sets a key.
fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

/// Reads a variable's text as a value of the kind that the key has by default.
///
/// Lists may be written as in TOML, or separated by commas.
pub(super) fn parse(text: &str, default: &Value) -> Option<Value> {
    match default {
        Value::String(_) => Some(text.into()),
        Value::Array(_) if !text.trim_start().starts_with('[') => {
            let items = text.split(',').map(str::trim);
            let items = items.filter(|item| !item.is_empty());
            Some(Value::Array(items.map(Value::from).collect()))
        }
        _ => text.trim().parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_ours_says_its_key_and_back() {
        for (name, key) in [
            ("DUOLOGUE_SERVER__PORT", Some("server.port")),
            (
                "DUOLOGUE_MODEL__OPENAI__BASE_URL",
                Some("model.openai.base_url"),
            ),
            ("DUOLOGUE_PORT", None),
            ("PORT", None),
        ] {
            assert_eq!(key_of(name).as_deref(), key);
            if let Some(key) = key {
                assert_eq!(variable_of(key), name);
            }
        }
    }

    /// Whoever copies the file sees every name there is, and none that does nothing.
    #[test]
    fn the_example_of_an_environment_has_every_name() {
        let example = include_str!("../../../../env.example");
        let lines = example.lines().filter(|line| !line.starts_with('#'));
        let mut listed: Vec<&str> = lines
            .filter_map(|line| line.split_once('=').map(|(name, _)| name))
            .collect();
        let mut names: Vec<&str> = FAMILIAR.iter().map(|(name, _)| *name).collect();
        names.push(CONFIG_FILE);
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(listed, names);
    }
}
