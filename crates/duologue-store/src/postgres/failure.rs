//! What Postgres's errors mean to the caller of a function.

use crate::{functions::Failure, sqlstate};

/// Why a call failed, by how far it came.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresFailure {
    #[error("too many calls wait for a connection to Postgres")]
    Busy,
    #[error("the store is closed")]
    Closed,
    #[error("no connection to Postgres")]
    NoConnection(#[source] sqlx::Error),
    /// It may have been carried out, unless Postgres says otherwise.
    #[error("Postgres did not complete a call")]
    Call(#[source] sqlx::Error),
    /// It may have been carried out.
    #[error("Postgres did not answer in time")]
    TimedOut,
    #[error("the answer of Postgres cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

impl PostgresFailure {
    /// Whether the connection must not be used again.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::NoConnection(_) | Self::TimedOut => true,
            Self::Call(error) => !matches!(error, sqlx::Error::Database(_)) || self.is_shut_down(),
            Self::Busy | Self::Closed | Self::Unreadable(_) => false,
        }
    }

    /// Whether Postgres closed the connection, and had the time to say so.
    fn is_shut_down(&self) -> bool {
        self.sqlstate().is_some_and(|code| code.starts_with("57P"))
    }

    fn sqlstate(&self) -> Option<String> {
        let (Self::NoConnection(error) | Self::Call(error)) = self else {
            return None;
        };
        let code = error.as_database_error()?.code()?;
        Some(code.into_owned())
    }
}

impl Failure for PostgresFailure {
    fn is_without_effect(&self) -> bool {
        match self {
            Self::Busy | Self::Closed | Self::NoConnection(_) => true,
            Self::Call(_) => self
                .sqlstate()
                .is_some_and(|code| sqlstate::is_broken_off(&code)),
            Self::TimedOut | Self::Unreadable(_) => false,
        }
    }

    fn is_brief(&self) -> bool {
        match self {
            Self::Call(error) => {
                let is_broken_off = self
                    .sqlstate()
                    .is_some_and(|code| sqlstate::is_broken_off(&code));
                is_broken_off
                    || self.is_shut_down()
                    || matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_))
            }
            Self::Busy
            | Self::Closed
            | Self::NoConnection(_)
            | Self::TimedOut
            | Self::Unreadable(_) => false,
        }
    }

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
            Self::Unreadable(_) => false,
            Self::Busy | Self::Closed | Self::NoConnection(_) | Self::TimedOut => true,
        }
    }
}
