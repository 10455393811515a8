//! The relay's rows: one task writes, and what comes while it writes is its next transaction.

use anyhow::{Context, Result};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

const QUEUE_MAX: usize = 4096;

const TABLE: &str = "create table if not exists messages (
    session_id text not null,
    turn       integer not null,
    role       text not null,
    content    text not null,
    primary key (session_id, turn, role)
)";

const INSERT: &str = "insert into messages (session_id, turn, role, content)
select * from unnest($1::text[], $2::integer[], $3::text[], $4::text[])";

/// Who said it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    User,
    Assistant,
    Summary,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Summary => "summary",
        }
    }
}

struct Row {
    session: String,
    turn: i32,
    role: &'static str,
    content: String,
    stored: oneshot::Sender<()>,
}

/// A handle to the writer.
#[derive(Clone, Debug)]
pub(super) struct Rows(mpsc::Sender<Row>);

impl Rows {
    /// Opens the database, and starts the writer among `tasks`.
    pub(super) async fn open(url: &str, tasks: &mut JoinSet<Result<()>>) -> Result<Self> {
        let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
        sqlx::raw_sql(TABLE).execute(&pool).await?;
        let (rows, queue) = mpsc::channel(QUEUE_MAX);
        tasks.spawn(write(pool, queue));
        Ok(Self(rows))
    }

    /// Returns when the row is stored.
    pub(super) async fn append(
        &self,
        session: &str,
        turn: u32,
        role: Role,
        text: &str,
    ) -> Result<()> {
        let (stored, result) = oneshot::channel();
        let row = Row {
            session: session.to_owned(),
            turn: turn.try_into()?,
            role: role.as_str(),
            content: text.to_owned(),
            stored,
        };
        self.0
            .send(row)
            .await
            .ok()
            .context("the writer has ended")?;
        result.await.context("the row was not stored")
    }
}

async fn write(pool: PgPool, mut queue: mpsc::Receiver<Row>) -> Result<()> {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, QUEUE_MAX).await > 0 {
        let (mut sessions, mut turns, mut roles) = (Vec::new(), Vec::new(), Vec::new());
        let (mut contents, mut stored) = (Vec::new(), Vec::new());
        for row in batch.drain(..) {
            sessions.push(row.session);
            turns.push(row.turn);
            roles.push(row.role);
            contents.push(row.content);
            stored.push(row.stored);
        }
        let insert = sqlx::query(INSERT)
            .bind(sessions)
            .bind(turns)
            .bind(roles)
            .bind(contents);
        insert.execute(&pool).await?;
        for stored in stored {
            // The client may have gone meanwhile.
            let _ = stored.send(());
        }
    }
    Ok(())
}
