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

impl From<sqlx::Error> for SqliteFailure {
    fn from(error: sqlx::Error) -> Self {
        Self(store_error(error))
    }
}

pub(super) fn store_error(error: sqlx::Error) -> StoreError {
    if may_pass(&error) {
        StoreError::Unavailable(error.into())
    } else {
        StoreError::Corrupt(error.into())
    }
}

/// Whether the same operation may succeed later.
pub(super) fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            // The low byte is the primary code, as sqlite.org/rescode.html lists them.
            let code = error.code().and_then(|code| code.parse::<u32>().ok());
            matches!(
                code.map(|code| code & 0xff),
                Some(
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
            )
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::RowNotFound => false,
        // The worker thread or the pool is gone; there will be another.
        _ => true,
    }
}
