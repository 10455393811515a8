//! The store in Postgres, by way of SQL functions (`migrations/postgres`): for several servers at once.
//!
//! Every operation is one call of a function that answers in JSON, so one [`FunctionStore`] serves every way to
//! call a function: over a connection to Postgres ([`postgres`](crate::postgres)), or over HTTP
//! ([`supabase`](crate::supabase)). Nothing depends on the state of a connection, so a pooler that assigns
//! another one to each transaction may stand in between.
//!
//! | part | what it does |
//! |---|---|
//! | `call` | a function with its arguments, what its failure means, and when it is repeated |
//! | `store`, `operators` | the traits of the engine: which function each operation calls |
//! | `items` | writes as the functions take them |
//! | `writer` | the one task that sends the writes of all sessions, in batches |
//! | `batch` | the writes that are sent together, and their answers |
//! | `round_trip` | how far away the database is |
//! | `origin` | the check for a restore from a backup |

mod batch;
mod call;
mod items;
mod operators;
mod origin;
mod round_trip;
mod store;
mod writer;

pub(crate) use self::{
    call::{Argument, Call, CallFailure, Failure, FunctionCaller, Lane, Repetition, repeat},
    store::FunctionStore,
};
