//! The database file: its lock, and how connections to it are set up.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqliteConnection,
    migrate::MigrateError,
    query_scalar,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use crate::OpenError;

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

    /// Connects for writing, and makes sure that what is committed will survive a power failure.
    pub(super) async fn connect(&self) -> Result<SqliteConnection, OpenError> {
        self.create_private()?;
        let unusable = |source| self.unusable(source);
        let mut connection = self.read_write().connect().await.map_err(unusable)?;
        // A filesystem without shared memory has no WAL, and SQLite then silently keeps another
        // mode.
        let journal_mode: String = query_scalar("pragma journal_mode")
            .fetch_one(&mut connection)
            .await
            .map_err(unusable)?;
        self.expect("journal_mode", &journal_mode, "wal")?;
        let synchronous: i64 = query_scalar("pragma synchronous")
            .fetch_one(&mut connection)
            .await
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

    /// How readers connect.
    pub(super) fn read_only(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .busy_timeout(self.busy_timeout)
    }

    /// How to connect to the file as it is: it is not created, and none of its settings change.
    pub(super) fn existing(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .busy_timeout(self.busy_timeout)
    }

    fn read_write(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(true)
            .busy_timeout(self.busy_timeout)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL mode anything less loses the last commits when the power fails.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
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

    pub(super) fn unusable(&self, source: sqlx::Error) -> OpenError {
        unusable(&self.path, source)
    }

    pub(super) fn not_migrated(&self, source: MigrateError) -> OpenError {
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

pub(super) fn unusable(path: &Path, source: sqlx::Error) -> OpenError {
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
    #[tokio::test]
    async fn files_are_created_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::lock(&folder.path().join("d.db"), SOON).unwrap();
        let mut connection = file.connect().await.unwrap();
        sqlx::query("create table written (id integer)")
            .execute(&mut connection)
            .await
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
    #[tokio::test]
    async fn a_writer_waits_for_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let file = DatabaseFile::lock(&folder.path().join("d.db"), SOON).unwrap();
        let mut connection = file.connect().await.unwrap();
        let journal_mode = query_scalar::<_, String>("pragma journal_mode");
        assert_eq!(
            journal_mode.fetch_one(&mut connection).await.unwrap(),
            "wal"
        );
        let synchronous = query_scalar::<_, i64>("pragma synchronous");
        let full = 2;
        assert_eq!(synchronous.fetch_one(&mut connection).await.unwrap(), full);
    }

    /// A file that is something else is left alone.
    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letter.txt");
        let letter = "Dear reader, this is not a database. ".repeat(100);
        std::fs::write(&path, &letter).unwrap();
        let file = DatabaseFile::lock(&path, SOON).unwrap();
        let Err(error) = file.connect().await else {
            panic!("a letter was taken for a database");
        };
        assert!(
            error.to_string().contains("SQLite cannot use it"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);
    }
}
