//! What a server has stored, compared with what its clients have sent and received.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::{
    delay::DelayProxy, postgres::Cluster, session::Record, surroundings::Surroundings,
    upstream::SUMMARY,
};

/// The tables that a server stores sessions in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    /// Duologue's: a log of events.
    Events,
    /// The relay's: a row per message.
    Messages,
}

/// A database that was made for one run.
#[derive(Debug)]
pub(crate) enum Stored {
    Sqlite { file: PathBuf, schema: Schema },
    Postgres { database: String, schema: Schema },
}

/// One row, whatever the schema: session, position, kind, content.
type StoredRow = (String, i64, String, Option<String>);

/// In Postgres's spelling, and valid in SQLite.
const EVENTS: &str =
    "select session_id, seq as position, event_type as kind, payload ->> 'text' as content
from session_events order by session_id, seq";

const MESSAGES: &str = "select session_id,
    row_number() over (partition by session_id order by turn, role desc) as position,
    role as kind, content
from messages order by session_id, turn, role desc";

impl Stored {
    /// The URL for the server, by way of a proxy if there is one.
    pub(crate) fn url(&self, around: &Surroundings, proxy: Option<&DelayProxy>) -> Result<String> {
        match self {
            Self::Sqlite { file, .. } => Ok(format!("sqlite:{}", file.display())),
            Self::Postgres { database, .. } => {
                let cluster = around.cluster()?;
                let port = proxy.map_or(cluster.port(), DelayProxy::port);
                Ok(Cluster::url(database, port))
            }
        }
    }

    fn schema(&self) -> Schema {
        match self {
            Self::Sqlite { schema, .. } | Self::Postgres { schema, .. } => *schema,
        }
    }

    /// How many sessions have a summary.
    pub(crate) async fn summarized(&self, around: &Surroundings) -> Result<u64> {
        let count = match self.schema() {
            Schema::Events => "select count(*) from sessions where status = 'completed'",
            Schema::Messages => "select count(*) from messages where role = 'summary'",
        };
        let count: i64 = match self {
            Self::Sqlite { file, .. } => open(file)?.query_row(count, (), |row| row.get(0))?,
            Self::Postgres { database, .. } => {
                let mut connection = around.cluster()?.connect(database).await?;
                sqlx::query_scalar(count).fetch_one(&mut connection).await?
            }
        };
        Ok(count.try_into()?)
    }

    /// Checks every row of these sessions: their number, order and texts.
    pub(crate) async fn check(
        &self,
        around: &Surroundings,
        records: &[Record],
        ended: bool,
    ) -> Result<u64> {
        let rows = self.rows(around).await?;
        let mut checked = 0;
        for record in records {
            let rows = rows.get(&record.id).map_or(&[][..], Vec::as_slice);
            let expected = expected(record, self.schema(), ended);
            let check = compare(rows, &expected);
            check.with_context(|| format!("session {} is stored wrongly", record.id))?;
            checked += rows.len() as u64;
        }
        Ok(checked)
    }

    async fn rows(&self, around: &Surroundings) -> Result<HashMap<String, Vec<StoredRow>>> {
        let query = match self.schema() {
            Schema::Events => EVENTS,
            Schema::Messages => MESSAGES,
        };
        let rows: Vec<StoredRow> = match self {
            Self::Sqlite { file, .. } => {
                let connection = open(file)?;
                let mut statement = connection.prepare(query)?;
                let rows = statement.query_map((), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })?;
                rows.collect::<Result<_, _>>()?
            }
            Self::Postgres { database, .. } => {
                let cluster = around.cluster()?;
                let mut connection = cluster.connect(database).await?;
                sqlx::query_as(query).fetch_all(&mut connection).await?
            }
        };
        let mut sessions: HashMap<String, Vec<StoredRow>> = HashMap::new();
        for row in rows {
            sessions.entry(row.0.clone()).or_default().push(row);
        }
        Ok(sessions)
    }

    /// Removes the database. Files are removed with their folder.
    pub(crate) async fn remove(self, around: &Surroundings) -> Result<()> {
        if let Self::Postgres { database, .. } = self {
            let cluster = around.cluster()?;
            cluster.drop_database(&database).await?;
        }
        Ok(())
    }
}

fn open(file: &Path) -> Result<Connection> {
    Ok(Connection::open_with_flags(
        file,
        OpenFlags::SQLITE_OPEN_READ_ONLY,
    )?)
}

/// The kinds and texts of a session's rows. Without a text, any text is right.
fn expected(record: &Record, schema: Schema, ended: bool) -> Vec<(&'static str, Option<&str>)> {
    let mut rows = Vec::new();
    if schema == Schema::Events {
        rows.extend([("session_started", None), ("client_connected", None)]);
    }
    for turn in &record.turns {
        let (message, answer) = (Some(turn.message.as_str()), Some(turn.answer.as_str()));
        match schema {
            Schema::Events => rows.extend([
                ("user_message", message),
                ("routed", None),
                ("assistant_message", answer),
            ]),
            Schema::Messages => rows.extend([("user", message), ("assistant", answer)]),
        }
    }
    match (schema, ended) {
        (Schema::Events, true) => rows.extend([
            ("client_disconnected", None),
            ("session_ended", None),
            ("session_summarized", None),
        ]),
        (Schema::Messages, true) => rows.push(("summary", Some(SUMMARY))),
        (_, false) => {}
    }
    rows
}

fn compare(rows: &[StoredRow], expected: &[(&str, Option<&str>)]) -> Result<()> {
    let kinds: Vec<_> = rows.iter().map(|(_, _, kind, _)| kind.as_str()).collect();
    let expected_kinds: Vec<_> = expected.iter().map(|(kind, _)| *kind).collect();
    ensure!(
        kinds == expected_kinds,
        "rows {kinds:?}, not {expected_kinds:?}"
    );
    for ((index, row), (kind, expected)) in (1..).zip(rows).zip(expected) {
        let (_, position, _, content) = row;
        ensure!(
            *position == index,
            "row {index} has the position {position}"
        );
        let is_right = expected.is_none() || content.as_deref() == *expected;
        ensure!(
            is_right,
            "`{kind}` at {position} has another text than the client"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(position: i64, kind: &str, content: &str) -> StoredRow {
        let session = "session-1".to_owned();
        (session, position, kind.to_owned(), Some(content.to_owned()))
    }

    const EXPECTED: &[(&str, Option<&str>)] = &[("routed", None), ("user", Some("Hello"))];

    #[test]
    fn rows_that_are_as_clients_saw_them_pass() {
        let rows = [row(1, "routed", "x"), row(2, "user", "Hello")];
        compare(&rows, EXPECTED).unwrap();
    }

    #[test]
    fn rows_that_are_missing_in_another_order_or_with_another_text_are_found() {
        let wrong = [
            vec![row(1, "routed", "x")],
            vec![row(1, "user", "Hello"), row(2, "routed", "x")],
            vec![row(1, "routed", "x"), row(3, "user", "Hello")],
            vec![row(1, "routed", "x"), row(2, "user", "Hell")],
        ];
        for rows in wrong {
            assert!(compare(&rows, EXPECTED).is_err(), "{rows:?}");
        }
    }
}
