//! The files that tidy reads, and the violations that it reports.

use std::{fmt, fs, path::Path};

use anyhow::Context;

use crate::external::{output, program};

/// What a violation is about, as `EXCEPTIONS` refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Headers,
    Lengths,
    Names,
    Words,
    Arrows,
    Migrations,
    Schema,
    Settings,
    Links,
    Paths,
    Promises,
    Machines,
    Cycles,
    TypeNames,
    Language,
    Sizes,
}

/// A place where a rule is broken, and what to do about it.
#[derive(Debug, PartialEq)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) path: String,
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) message: String,
}

impl Violation {
    pub(super) fn new(rule: Rule, path: &str, line: usize, message: impl Into<String>) -> Self {
        Self {
            rule,
            path: path.to_owned(),
            line,
            message: message.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// The files that belong to the project, by path from its root.
pub(super) struct Tree(pub(super) Vec<Text>);

pub(super) struct Text {
    pub(super) path: String,
    pub(super) text: String,
}

impl Text {
    pub(super) fn is(&self, extensions: &[&str]) -> bool {
        let extension = Path::new(&self.path).extension();
        extensions
            .iter()
            .any(|allowed| extension == Some(allowed.as_ref()))
    }

    /// Its lines, counted from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

impl Tree {
    /// What git tracks or would track: a new file is checked before it is added.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let arguments = "ls-files -z --cached --others --exclude-standard --deduplicate";
        let paths = output(program("git", root).args(arguments.split(' ')))?;
        let mut texts = Vec::new();
        for path in paths.split_terminator('\0') {
            let file = root.join(path);
            // Git still lists what was deleted but not yet committed, and links to folders.
            if !file.is_file() {
                continue;
            }
            let bytes = fs::read(&file).with_context(|| format!("{path} cannot be read"))?;
            texts.push(Text {
                path: path.to_owned(),
                // What is not text, such as a picture, has no lines to check; but links lead to it.
                text: String::from_utf8(bytes).unwrap_or_default(),
            });
        }
        anyhow::ensure!(
            !texts.is_empty(),
            "git lists no files in {}",
            root.display()
        );
        Ok(Self(texts))
    }

    pub(super) fn get(&self, path: &str) -> Option<&Text> {
        self.0.iter().find(|text| text.path == path)
    }

    #[cfg(test)]
    pub(super) fn of<const N: usize>(texts: [(&str, &str); N]) -> Self {
        let text = |(path, text): (&str, &str)| Text {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        Self(texts.map(text).into())
    }
}
