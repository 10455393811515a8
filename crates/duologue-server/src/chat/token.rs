//! The token that proves who talks: from a variable, or from a file that somebody keeps fresh.
//!
//! It is no argument, since everybody on a machine can read those.

use std::{fs, io, path::PathBuf};

use secrecy::{ExposeSecret, SecretString};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::chat::ChatError;

/// Where the token is.
#[derive(Clone, Debug, Default)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// Here.
    Given(SecretString),
    /// In this file, which is read anew whenever a token is wanted.
    File(PathBuf),
}

impl Token {
    /// The file that was named, else the variable's value.
    pub fn new(file: Option<PathBuf>, variable: Option<&str>) -> Self {
        match (file, variable) {
            (Some(file), _) => Self::File(file),
            (None, Some(token)) => Self::Given(token.into()),
            (None, None) => Self::None,
        }
    }

    /// The token as it is now.
    fn read(&self) -> Result<Option<SecretString>, ChatError> {
        match self {
            Self::None => Ok(None),
            Self::Given(token) => Ok(Some(token.clone())),
            Self::File(file) => {
                let unreadable = |error: io::Error| ChatError::Token(file.clone(), error);
                let text = fs::read_to_string(file).map_err(unreadable)?;
                Ok(Some(text.trim().into()))
            }
        }
    }

    /// What `Authorization` says.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, ChatError> {
        let Some(token) = self.read()? else {
            return Ok(None);
        };
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
        let mut value = value.map_err(|_| {
            ChatError::Refused("the token has characters that no token has".to_owned())
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The frame that brings a fresh one, where there may be one.
    pub(super) fn fresh_frame(&self) -> Result<Option<String>, ChatError> {
        if !matches!(self, Self::File(_)) {
            return Ok(None);
        }
        let token = self.read()?;
        Ok(token.map(|token| {
            serde_json::json!({ "type": "auth", "token": token.expose_secret() }).to_string()
        }))
    }
}
