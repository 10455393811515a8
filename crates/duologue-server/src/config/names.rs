//! The names of variables: ours, and those that users already have.

/// Names the configuration file. It is no setting itself.
pub(super) const CONFIG_FILE: &str = "DUOLOGUE_CONFIG";

pub(super) const PREFIX: &str = "DUOLOGUE_";

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

/// The name of ours that sets a key.
pub(super) fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_ascii_uppercase())
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
