//! Settings that look like a mistake but need not be one.

use crate::config::{
    auth::AuthMode,
    environment::VariableLayer,
    names::{PREFIX, variable_of},
    sections::Config,
    settings::Settings,
};

/// Names such as `DUOLOGUE_SERVER_PORT`, which lack an underscore.
pub(super) fn misspelled_variables(layer: &VariableLayer<'_>, settings: &Settings) -> Vec<String> {
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

/// `store.supabase_schema` where a database URL determines the schema.
pub(super) fn unused_supabase_schema(config: &Config, settings: &Settings) -> Option<String> {
    let (schema, source) = (
        &config.store.supabase_schema,
        settings.source("store.supabase_schema")?,
    );
    (schema != "public" && !config.store.is_auto()).then(|| {
        format!(
            "{source} sets nothing; to use another schema than `public`, append \
             `?options=-csearch_path%3D{schema}` to the database's URL"
        )
    })
}
/// Settings of tokens while authentication is disabled.
pub(super) fn unused_auth(config: &Config, settings: &Settings) -> Option<String> {
    let keys = ["auth.jwt_secret", "auth.jwks_url"];
    let (key, source) = keys
        .iter()
        .find_map(|key| Some((key, settings.source(key)?)))?;
    (config.auth.mode == AuthMode::None).then(|| {
        format!(
            "{source} sets `{key}`, which has no effect: authentication is disabled (`auth.mode` is \
             \"none\"); set `auth.mode` to \"jwt\" or \"supabase\" to require tokens"
        )
    })
}
