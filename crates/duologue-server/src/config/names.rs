//! The names of environment variables: `DUOLOGUE_SECTION__KEY`, and familiar ones.

/// The variable with the path of the configuration file. It is not a setting.
pub(super) const CONFIG_FILE: &str = "DUOLOGUE_CONFIG";

pub(super) const PREFIX: &str = "DUOLOGUE_";

/// Familiar names, and the keys that they set. Of two for one key the later overrides the earlier.
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

/// The key that a variable sets: `server.port` for `DUOLOGUE_SERVER__PORT`.
///
/// A name without `__` sets nothing. It is not refused, since other programs set such variables: for
/// a service called `duologue`, Kubernetes sets `DUOLOGUE_PORT` and a dozen more.
pub(super) fn key_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.contains("__")
        .then(|| rest.replace("__", ".").to_ascii_lowercase())
}

/// Whether the server reads a variable of this name.
pub(super) fn is_ours(name: &str) -> bool {
    name == CONFIG_FILE
        || key_of(name).is_some()
        || FAMILIAR.iter().any(|(familiar, _)| *familiar == name)
}

/// The variable that sets a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_determines_its_key_and_the_reverse() {
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

    /// The example lists every familiar name, and no other.
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
