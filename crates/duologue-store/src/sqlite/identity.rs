//! Which file a path names, and whether it still names the same one.
//!
//! On Unix an open file can be deleted, moved or replaced. SQLite would go on writing to it, and everything
//! acknowledged from then on would be lost with the last process that has it open.

use std::{
    fs::{self, Metadata},
    io,
    path::PathBuf,
};

use crate::OpenError;

/// A path, and the file that it named.
#[derive(Clone, Debug)]
pub(super) struct OpenFile {
    path: PathBuf,
    id: FileId,
}

/// What was found at the path.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} was deleted, moved or replaced while the server has it open, so nothing is stored; put the original \
     file back with its -wal and -shm files, or stop the server and restore a backup",
    .file.display()
)]
pub(super) struct FileChanged {
    file: PathBuf,
    /// Why the path could not be examined, if that is the reason.
    source: Option<io::Error>,
}

impl OpenFile {
    /// Remembers the file that the path names now.
    pub(super) fn at(path: PathBuf) -> Result<Self, OpenError> {
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Self {
                path,
                id: FileId::of(&metadata),
            }),
            Err(source) => Err(OpenError::File { file: path, source }),
        }
    }

    /// Compares. Only examines the path: opening and closing the file would release SQLite's locks on it.
    pub(super) fn check(&self) -> Result<(), FileChanged> {
        let source = match fs::metadata(&self.path) {
            Ok(metadata) if FileId::of(&metadata) == self.id => return Ok(()),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        Err(FileChanged {
            file: self.path.clone(),
            source,
        })
    }
}

/// Device and inode.
#[cfg(unix)]
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileId(u64, u64);

#[cfg(unix)]
impl FileId {
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;

        Self(metadata.dev(), metadata.ino())
    }
}

/// Elsewhere an open file cannot be replaced.
#[cfg(not(unix))]
#[derive(Clone, Debug, PartialEq, Eq)]
struct FileId;

#[cfg(not(unix))]
impl FileId {
    fn of(_: &Metadata) -> Self {
        Self
    }
}
