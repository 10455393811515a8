//! What SQLite's errors mean to the caller of the store.

use duologue_engine::store::StoreError;

/// Why an operation on a connection failed; `?` converts SQLite's errors and our own to it.
#[derive(Debug)]
pub(super) struct SqliteFailure(pub(super) StoreError);

impl From<StoreError> for SqliteFailure {
    fn from(error: StoreError) -> Self {
        Self(error)
    }
}

impl From<rusqlite::Error> for SqliteFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self(store_error(error))
    }
}

pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    if may_pass(&error) {
        StoreError::Unavailable(error.into())
    } else {
        StoreError::Corrupt(error.into())
    }
}

/// Whether the same operation may succeed later. All else that can fail here is a value of a wrong type.
pub(super) fn may_pass(error: &rusqlite::Error) -> bool {
    let (rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. }) =
        error
    else {
        return false;
    };
    // The low byte is the primary code, as sqlite.org/rescode.html lists them.
    matches!(
        error.extended_code & 0xff,
        5 // busy: another process writes
            | 6 // locked
            | 7 // out of memory
            | 8 // read-only: a filesystem that was remounted
            | 9 // interrupted
            | 10 // input or output
            | 13 // disk full
            | 14 // cannot open: out of file descriptors
            | 15 // locking protocol
    )
}
