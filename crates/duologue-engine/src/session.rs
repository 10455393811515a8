//! A session: one conversation, one task, one log.
//!
//! [`actor`] is the session's task: it waits for what happens next, and dispatches it to the parts that
//! own the session's state. The parts do not import each other.
//!
//! ```text
//! readers ──Command──▶ Session ──spawns──▶ Turn
//!    ▲                 │     ▲              │
//!    └──Event, Delta───┘     └───Output─────┤
//!    └──────────────Delta───────────────────┘
//! ```
//!
//! | part | owns |
//! |---|---|
//! | `inbox` | the queue of commands, a `command_queue` |
//! | `readers` | the session's end of its `broadcast`: the readers and the answer in progress, shared with the turn |
//! | `turn_slot` | the running turn and its reservation |
//! | `lifecycle` | whether the session is active, draining or ending, and its deadlines |
//! | `journal` | the log and its fold; the only writer |
//! | `facts` | what the first frame of a connection states |
//! | `messages`, `recovery` | decisions without state: what happens to a message, and to an open turn |
//!
//! Invariants:
//!
//! * Only this task appends to the log, so events need no lock and have one order.
//! * An event reaches readers after it is stored; a delta is never stored. A turn sends its deltas itself,
//!   unless an event before them is still to be stored.
//! * At most one turn runs. Other messages wait in a bounded queue, which is in the log.
//! * While the session has a reader, a message only waits while a turn runs.
//! * A session is only released between turns, so every message gets its end; queued messages are left
//!   to the next holder.
//!
//! Not here: what a turn does (`turn`), sockets (`duologue-server`), SQL (`duologue-store`).

mod actor;
mod batch;
mod budget;
mod command_queue;
mod exit;
mod facts;
mod inbox;
mod journal;
mod lifecycle;
mod messages;
mod position;
mod readers;
mod recovery;
mod task;
mod turn_slot;

#[cfg(feature = "testing")]
pub use self::actor::replay;
pub use self::{inbox::AttachError, position::Position};
pub(crate) use self::{inbox::SessionHandle, recovery::Opening, task::spawn};
