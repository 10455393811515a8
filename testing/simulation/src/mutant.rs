//! Faults planted on purpose, each of which the simulation must find.
//!
//! They test the checks: a check that no planted fault trips may be one that cannot fail.

use duologue_observer::ClientFault;

/// What is wrong with the database, or with the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A write is acknowledged first and done with the next; a new holder never sees it.
    AcknowledgesBeforeCommit,
    /// A repeated write is done again.
    RepeatsWrites,
    /// What is read has lost the ids of messages, so that duplicates are not recognised.
    ForgetsMessageIds,
    /// Writes under an old epoch are done.
    HasNoFence,
    /// A worker that has lost its job is treated as if it had not.
    HasNoJobFence,
    /// Sessions are claimed as soon as their lease lapses.
    IgnoresGrace,
    /// Sessions without a task are not taken back by the server that holds them.
    ForgetsAbandoned,
    /// The first event of what is read is missing.
    ReadsOneTooFar,
    /// A user that asks for a session becomes its owner.
    IgnoresOwners,
    /// An operation that its session does not poll keeps its connection to the database.
    HoldsConnectionsUnpolled,
    /// Clients do not resume: each connection continues where the server is, whatever was missed.
    SkipsGaps,
    /// Clients leave one piece of each answer out.
    SkipsTokens,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::AcknowledgesBeforeCommit,
        Self::RepeatsWrites,
        Self::ForgetsMessageIds,
        Self::HasNoFence,
        Self::HasNoJobFence,
        Self::IgnoresGrace,
        Self::ForgetsAbandoned,
        Self::ReadsOneTooFar,
        Self::IgnoresOwners,
        Self::HoldsConnectionsUnpolled,
        Self::SkipsGaps,
        Self::SkipsTokens,
    ];

    /// The fault that clients have.
    pub(crate) fn client_fault(self) -> Option<ClientFault> {
        match self {
            Self::SkipsGaps => Some(ClientFault::SkipsGaps),
            Self::SkipsTokens => Some(ClientFault::SkipsTokens),
            _of_the_database => None,
        }
    }
}
