//! Keys of earlier versions. A configuration with one is refused, with the new name.

/// The earlier and the present key of each setting that was renamed.
const RENAMED: [(&str, &str); 2] = [
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
    use super::*;
    use crate::config::Settings;

    #[test]
    fn renamed_keys_are_no_keys_and_their_new_names_are() {
        let keys = Settings::defaults().keys();
        for (old, new) in RENAMED {
            assert!(!keys.iter().any(|key| key == old), "{old}");
            assert!(keys.iter().any(|key| key == new), "{new}");
            assert_eq!(new_name(old), Some(new));
        }
    }
}
