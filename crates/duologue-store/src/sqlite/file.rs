//! The database file: its lock, and how connections to it are set up.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use duologue_engine::BoxError;
use rusqlite::{Connection, OpenFlags};

use crate::OpenError;

/// Statements that a connection keeps prepared: more than there are.
const STATEMENTS_MAX: usize = 64;

/// A database file that belongs to this process for as long as this value lives.
pub(super) struct DatabaseFile {
    path: PathBuf,
    busy_timeout: Duration,
    // A lock of its own, since SQLite's locks come and go with each transaction. The system frees
    // it when the process dies, however it dies.
    _lock: File,
}

impl DatabaseFile {
    /// Takes the file, or says who is in the way.
    pub(super) fn lock(path: &Path, busy_timeout: Duration) -> Result<Self, OpenError> {
        let failed = |source| OpenError::File {
            file: path.to_owned(),
            source,
        };
        let lock = private()
            .create(true)
            .truncate(false)
            .open(lock_path(path).map_err(failed)?)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                busy_timeout,
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
                file: path.to_owned(),
            }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// Connects for writing, and makes sure that what is committed will survive a power failure. Creates the
    /// file if there is none.
    pub(super) fn connect(&self) -> Result<Connection, OpenError> {
        self.create_private()?;
        self.connect_existing()
    }

    /// The same, but does not create the file.
    pub(super) fn connect_existing(&self) -> Result<Connection, OpenError> {
        let unusable = |source| self.unusable(source);
        let connection = self.existing()?;
        // A filesystem without shared memory has no WAL, and SQLite then silently keeps another
        // mode.
        let journal_mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
            .map_err(unusable)?;
        self.expect("journal_mode", &journal_mode, "wal")?;
        // In WAL mode anything less loses the last commits when the power fails.
        connection
            .pragma_update(None, "synchronous", "full")
            .map_err(unusable)?;
        let synchronous: i64 = connection
            .pragma_query_value(None, "synchronous", |row| row.get(0))
            .map_err(unusable)?;
        self.expect("synchronous", &synchronous.to_string(), "2")?;
        Ok(connection)
    }

    /// Creates the file if it does not exist, for this user alone. SQLite gives `-wal` and `-shm` the rights
    /// of the file. One that exists keeps its own; it is not even opened, as [`lock_path`] says.
    fn create_private(&self) -> Result<(), OpenError> {
        match private().create_new(true).open(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => Err(OpenError::File {
                file: self.path.clone(),
                source,
            }),
            _ => Ok(()),
        }
    }

    /// Connects to the file as it is: it is not created, and none of its settings change.
    pub(super) fn existing(&self) -> Result<Connection, OpenError> {
        open(&self.path, Access::ReadWrite, self.busy_timeout)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A file beside it that SQLite names after it.
    pub(super) fn companion(&self, suffix: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(suffix);
        path.into()
    }

    fn expect(&self, setting: &'static str, value: &str, wanted: &str) -> Result<(), OpenError> {
        if value == wanted {
            return Ok(());
        }
        Err(OpenError::NotDurable {
            place: self.path.display().to_string(),
            setting,
            value: value.to_owned(),
        })
    }

    pub(super) fn unusable(&self, source: rusqlite::Error) -> OpenError {
        unusable(&self.path, source)
    }

    pub(super) fn not_migrated(&self, source: BoxError) -> OpenError {
        OpenError::Migration {
            place: self.path.display().to_string(),
            source,
        }
    }
}

/// Opens for writing; a file that this creates can be read by this user alone, whatever the umask.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// What a connection may do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

/// Connects to a file that exists. Its settings stay as they are.
pub(super) fn open(
    path: &Path,
    access: Access,
    busy_timeout: Duration,
) -> Result<Connection, OpenError> {
    let access = match access {
        Access::ReadOnly => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::ReadWrite => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    // Each connection stays on one thread at a time, so SQLite's own mutex is not needed.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(busy_timeout)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(connection)
    };
    connect().map_err(|source| unusable(path, source))
}

pub(super) fn unusable(path: &Path, source: rusqlite::Error) -> OpenError {
    OpenError::Sqlite {
        file: path.to_owned(),
        source,
    }
}

pub(super) fn too_new(path: &Path, version: i64) -> OpenError {
    OpenError::TooNew {
        place: path.display().to_string(),
        version,
    }
}

/// `FILE.lock`, beside the file itself, whatever links lead there.
///
/// The file is not opened here: if this process had it open already, closing it again would free
/// the locks that SQLite holds on it.
fn lock_path(path: &Path) -> io::Result<PathBuf> {
    let mut real = match path.canonicalize() {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let absolute = std::path::absolute(path)?;
            let (Some(folder), Some(name)) = (absolute.parent(), absolute.file_name()) else {
                return Err(error);
            };
            folder.canonicalize()?.join(name)
        }
        Err(error) => return Err(error),
    }
    .into_os_string();
    real.push(".lock");
    Ok(real.into())
}

#[cfg(test)]
mod tests {
    use rusqlite::types::Value;

    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    fn refusal(path: &Path) -> String {
        let Err(error) = DatabaseFile::lock(path, SOON) else {
            panic!("{} was opened", path.display());
        };
        error.to_string()
    }

    /// Conversations are private: the file and its companions are readable by their owner alone.
    #[cfg(unix)]
    #[test]
    fn files_are_created_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::lock(&folder.path().join("d.db"), SOON).unwrap();
        let connection = file.connect().unwrap();
        connection
            .execute_batch("create table written (id integer)")
            .unwrap();
        for name in ["d.db", "d.db-wal", "d.db-shm", "d.db.lock"] {
            let mode = folder.path().join(name).metadata().unwrap().permissions();
            assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
        }
    }

    /// A second server is refused, by whatever name it calls the file, until the first releases it.
    #[test]
    fn a_file_belongs_to_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("d.db");
        let link = folder.path().join("link.db");
        let first = DatabaseFile::lock(&path, SOON).unwrap();
        File::create(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(refusal(&path).contains("in use by another server"));
        assert!(refusal(&link).contains("in use by another server"));
        drop(first);
        DatabaseFile::lock(&link, SOON).unwrap();
    }

    #[test]
    fn a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = refusal(&folder.path().join("nowhere/d.db"));
        assert!(
            refusal.contains("nowhere/d.db cannot be opened"),
            "{refusal}"
        );
    }

    /// What is acknowledged survives a power failure only with both of these.
    #[test]
    fn a_writer_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::lock(&folder.path().join("d.db"), SOON).unwrap();
        let connection = file.connect().unwrap();
        let setting = |name: &str| -> Value {
            let value = connection.pragma_query_value(None, name, |row| row.get(0));
            value.unwrap()
        };
        assert_eq!(setting("journal_mode"), Value::Text("wal".to_owned()));
        let full = 2;
        assert_eq!(setting("synchronous"), Value::Integer(full));
    }

    /// A file that is something else is left alone.
    #[test]
    fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letter.txt");
        let letter = "Dear reader, this is not a database. ".repeat(100);
        std::fs::write(&path, &letter).unwrap();
        let file = DatabaseFile::lock(&path, SOON).unwrap();
        let Err(error) = file.connect() else {
            panic!("a letter was taken for a database");
        };
        assert!(
            error.to_string().contains("SQLite cannot use it"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);
    }
}
