//! One server's way to the database.

use std::{sync::Arc, time::Duration};

use duologue_engine::store::{
    Draft, Lease, StoreError,
    layer::{Call, Layer, Reply},
};
use futures_util::{FutureExt, future::join_all};
use tokio::time::sleep;

use super::{Database, Outcome, pool::Pool};
use crate::mutant::Mutant;

/// How long a server waits for a database that it cannot reach.
const TIMEOUT: Duration = Duration::from_millis(300);

/// A store that reaches the database as well as its server does.
#[derive(Debug)]
pub(crate) struct Connection {
    pool: Pool,
    database: Arc<Database>,
    server: String,
}

/// Whether a call changes anything; only then do faults roll the dice.
fn is_write(call: &Call) -> bool {
    !matches!(
        call,
        Call::Read(..) | Call::Session(..) | Call::TokensSpent(..) | Call::Ping()
    )
}

impl Connection {
    pub(crate) fn new(database: Arc<Database>, server: &str) -> Self {
        Self {
            pool: Pool::new(database.link.connections),
            database,
            server: server.to_owned(),
        }
    }

    /// Makes `call` at the database's time, if it gets there, and replies, if that comes back.
    /// What took effect is noted even where the server does not learn of it.
    async fn send(&self, call: &Call) -> Result<Reply, StoreError> {
        let database = &self.database;
        let tell = |what: &str| {
            let method = call.method();
            database
                .trace
                .note(&self.server, &format!("{method:?}: {what}"));
        };
        let _connection = self.pool.connection().await?;
        let plan = database.state().plan_call();
        let one_way = database.link.round_trip / 2;
        sleep(one_way + plan.there).await;
        if !database.reaches(&self.server) {
            sleep(TIMEOUT).await;
            return Err(unavailable("the database cannot be reached"));
        }
        if is_write(call) && plan.outcome == Outcome::Refused {
            tell("refused");
            self.failed();
            return Err(unavailable("the simulation made this write fail"));
        }
        let result = {
            let _at_its_time = database.clock.enter();
            let result = call.make(&*database.store).now_or_never();
            result.expect("the store in memory waits for nothing")
        };
        if let Ok(reply) = &result {
            let now = database.time.now();
            database.state().ledger.note(call, reply, now);
        }
        sleep(plan.back + one_way).await;
        let is_lost = is_write(call) && plan.outcome == Outcome::Lost;
        if is_lost || !database.reaches(&self.server) {
            tell("done, but the answer is lost");
            self.failed();
            return Err(unavailable("the answer was lost"));
        }
        result
    }

    fn failed(&self) {
        let now = self.database.time.now();
        self.database.state().failures.push(now);
    }

    /// As if each session saved its own draft.
    async fn hold_connections(&self, drafts: &[(Lease, Draft)]) {
        let round_trip = self.database.link.round_trip;
        let leases = drafts.iter().map(|(lease, _)| &lease.session_id);
        let held = leases.map(|session_id| self.pool.hold_unpolled(session_id, round_trip));
        join_all(held.collect::<Vec<_>>()).await;
    }
}

fn unavailable(why: &'static str) -> StoreError {
    StoreError::Unavailable(why.into())
}

impl Layer for Connection {
    async fn handle(&self, call: Call) -> Result<Reply, StoreError> {
        match &call {
            Call::Append(lease, ..) => {
                self.pool.append_started(&lease.session_id);
                let result = self.send(&call).await;
                self.pool.append_returned(&lease.session_id, &result);
                result
            }
            Call::SaveDrafts(drafts) => {
                if self.database.mutant == Some(Mutant::HoldsConnectionsUnpolled) {
                    self.hold_connections(drafts).await;
                }
                self.send(&call).await
            }
            // The database outlives its servers.
            Call::Close() => Ok(Reply::Close(())),
            _ => self.send(&call).await,
        }
    }
}
