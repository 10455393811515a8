//! What Postgres's errors mean to the caller of the store.

use duologue_engine::store::StoreError;

use crate::sqlstate;

/// Why a call failed, by how far it came.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresFailure {
    #[error("no connection to Postgres")]
    NoConnection(#[source] sqlx::Error),
    #[error("Postgres did not begin a transaction")]
    NotBegun(#[source] sqlx::Error),
    #[error("Postgres did not complete a call")]
    Call(#[source] sqlx::Error),
    #[error("Postgres did not answer in time")]
    TimedOut,
}

impl PostgresFailure {
    /// Whether Postgres gave up this transaction in favour of another: it may be repeated at once.
    pub(super) fn is_broken_off(&self) -> bool {
        self.sqlstate()
            .is_some_and(|code| sqlstate::is_broken_off(&code))
    }

    /// Whether the connection had gone before we had a use for it.
    pub(super) fn is_dead_connection(&self) -> bool {
        let parting_words = match self.sqlstate() {
            // It was shut down, and the server had the time to say so.
            Some(code) => code.starts_with("57P"),
            None => true,
        };
        matches!(self, Self::NotBegun(_)) && parting_words
    }

    /// Whether the connection itself cannot be trusted any more.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::NoConnection(_) | Self::NotBegun(_) | Self::TimedOut => true,
            Self::Call(error) => !matches!(error, sqlx::Error::Database(_)),
        }
    }

    fn sqlstate(&self) -> Option<String> {
        let (Self::NoConnection(error) | Self::NotBegun(error) | Self::Call(error)) = self else {
            return None;
        };
        let code = error.as_database_error()?.code()?;
        Some(code.into_owned())
    }

    /// Whether the same call may succeed later.
    fn may_pass(&self) -> bool {
        if let Some(code) = self.sqlstate() {
            return sqlstate::may_pass(&code);
        }
        match self {
            Self::Call(error) => !matches!(
                error,
                sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::ColumnNotFound(_)
                    | sqlx::Error::RowNotFound
            ),
            Self::NoConnection(_) | Self::NotBegun(_) | Self::TimedOut => true,
        }
    }
}

pub(super) fn store_error(failure: PostgresFailure) -> StoreError {
    if failure.may_pass() {
        StoreError::Unavailable(failure.into())
    } else {
        StoreError::Corrupt(failure.into())
    }
}
