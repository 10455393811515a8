//! Keys of earlier versions. A configuration with one is refused, with the new name.

/// The earlier and the present key of each setting that was renamed.
const RENAMED: [(&str, &str); 4] = [
    ("session.lease", "cluster.lease"),
    (
        "session.lease_renewal_interval",
        "cluster.heartbeat_interval",
    ),
    (
        "limits.connection.messages_per_minute",
        "limits.connection.frames_per_minute",
    ),
    (
        "limits.connection.messages_burst",
        "limits.connection.frames_burst",
    ),
];

/// The present name of a key that was renamed.
pub(super) fn new_name(key: &str) -> Option<&'static str> {
    let (_, new) = RENAMED.iter().find(|(old, _)| *old == key)?;
    Some(new)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Environment, Settings, load};

    #[test]
    fn renamed_keys_are_no_keys_and_their_new_names_are() {
        let keys = Settings::defaults().keys();
        for (old, new) in RENAMED {
            assert!(!keys.iter().any(|key| key == old), "{old}");
            assert!(keys.iter().any(|key| key == new), "{new}");
            assert_eq!(new_name(old), Some(new));
        }
    }

    /// A limit under its old name would not apply, so the server refuses it, wherever it comes from.
    #[test]
    fn a_renamed_key_is_refused_with_its_source_and_its_new_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("duologue.toml");
        fs::write(&path, "limits.connection.messages_burst = 5").unwrap();
        let name = "DUOLOGUE_LIMITS__CONNECTION__MESSAGES_PER_MINUTE";
        let none: [(&str, &str); 0] = [];
        for (file, process, dot_env, source, advice) in [
            (
                Some(path.as_path()),
                none.to_vec(),
                none.to_vec(),
                "duologue.toml) was renamed",
                "use `limits.connection.frames_burst` instead",
            ),
            (
                None,
                vec![(name, "5")],
                none.to_vec(),
                "(from DUOLOGUE_LIMITS__CONNECTION__MESSAGES_PER_MINUTE) was renamed",
                "use DUOLOGUE_LIMITS__CONNECTION__FRAMES_PER_MINUTE instead",
            ),
            (
                None,
                none.to_vec(),
                vec![(name, "5")],
                "MESSAGES_PER_MINUTE in .env) was renamed",
                "use DUOLOGUE_LIMITS__CONNECTION__FRAMES_PER_MINUTE instead",
            ),
        ] {
            let environment = Environment::new(process, dot_env);
            let error = load(file, &environment, Vec::new())
                .unwrap_err()
                .to_string();
            assert!(error.contains(source), "{error}");
            assert!(error.contains(advice), "{error}");
            assert!(error.contains("`limits.connection.messages_"), "{error}");
        }
    }
}
