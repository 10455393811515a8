//! The token that authenticates the user: from an environment variable, or from a file.
//!
//! It is not an argument, since all users of a machine can read those.

use std::{fs, io, path::PathBuf};

use duologue_client::TokenSource;
use secrecy::SecretString;

/// Where the token is.
#[derive(Clone, Debug, Default)]
pub enum Token {
    /// There is none.
    #[default]
    None,
    /// Here.
    Given(SecretString),
    /// In this file, which is read each time a token is needed, so that another program can replace it.
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
}

impl TokenSource for Token {
    fn token(&mut self) -> io::Result<Option<SecretString>> {
        match self {
            Self::None => Ok(None),
            Self::Given(token) => Ok(Some(token.clone())),
            Self::File(file) => {
                let text = fs::read_to_string(&*file).map_err(|error| {
                    let file = file.display();
                    io::Error::new(error.kind(), format!("{file} cannot be read: {error}"))
                })?;
                Ok(Some(text.trim().into()))
            }
        }
    }
}
