//! The hash of an operator's token, as `auth.admin_tokens` lists it.

use std::fmt;

const PREFIX: &str = "sha256:";

/// The number of bytes of SHA-256.
const BYTES: usize = 32;

/// The SHA-256 hash of a token, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdminTokenHash(pub(crate) [u8; BYTES]);

impl AdminTokenHash {
    /// Reads a list of hashes. `None` if one of them has another form.
    pub(crate) fn read_all(texts: &[String]) -> Option<Vec<Self>> {
        texts.iter().map(|text| Self::read(text)).collect()
    }

    fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        if digits.len() != 2 * BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; BYTES];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for AdminTokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_another_form_is_refused() {
        let zeros = "0".repeat(64);
        assert!(AdminTokenHash::read_all(&[format!("sha256:{zeros}")]).is_some());
        for wrong in [
            zeros.clone(),
            format!("sha256:{zeros}0"),
            format!("sha256:+{}", "0".repeat(63)),
            format!("sha256:{}é", "0".repeat(62)),
            "sha256:".to_owned(),
            "a token by mistake".to_owned(),
        ] {
            assert!(
                AdminTokenHash::read_all(std::slice::from_ref(&wrong)).is_none(),
                "{wrong}"
            );
        }
    }
}
