//! What a plan is made of.

use std::time::Duration;

use duologue_protocol::Timestamp;
use proptest::{option, prelude::*, sample::Index};

/// One thing to do. Indices choose among what the plan has made so far; where there is nothing to
/// choose, nothing is done.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    /// Somebody comes to one of the sessions, perhaps with the first events of its log.
    Claim {
        session: u8,
        user: u8,
        server: u8,
        is_first: bool,
    },
    /// A holder, current or former, goes on with the log.
    Append { lease: Index, place: Place },
    /// A holder ends the session, perhaps with a worker for its job.
    End {
        lease: Index,
        place: Place,
        claim: Option<(u8, Span)>,
    },
    /// The answer to an append or an end was lost, so it is sent again as it was.
    SendAgain { write: Index },
    /// A holder releases its session.
    Release { lease: Index },
    /// A holder keeps a draft.
    Draft { lease: Index },
    /// A server was given an epoch before a restore from a backup, after which another one was given the
    /// same. From here on it writes like any other.
    Impersonate { lease: Index, server: u8 },
    /// A sweeper takes over what was released, and perhaps takes back a session that it names, with or without
    /// its epoch.
    ClaimLapsed {
        server: u8,
        abandoned: Option<(Index, bool)>,
    },
    /// A server asks which of its leases, current or former, it has lost.
    Heartbeat { server: u8 },
    /// A user reads a part of a log.
    Read {
        session: u8,
        user: u8,
        after: u8,
        limit: u8,
    },
    /// A worker asks for a job, for long or for no time.
    ClaimJob { worker: u8, lease: Span },
    /// A worker, current or former, has a result.
    Finish { job: Index, is_failure: bool },
    /// A worker gives its job back.
    Retry {
        job: Index,
        delay: Span,
        is_counted: bool,
    },
    /// A worker needs more time.
    Renew { job: Index },
    /// An operator has a job tried again.
    Operate { job: Index },
}

/// Where a holder believes the log to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where it does.
    End,
    /// One event earlier.
    Behind,
    /// One event later.
    Beyond,
}

/// A time that is over before anybody looks, or one that outlives the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Span {
    None,
    Long,
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    let place =
        prop_oneof![8 => Just(Place::End), 1 => Just(Place::Behind), 1 => Just(Place::Beyond)];
    let span = prop_oneof![Just(Span::None), Just(Span::Long)];
    let index = any::<Index>;
    let user = prop_oneof![6 => Just(0_u8), 1 => Just(1)];
    prop_oneof![
        4 => (0..2_u8, user.clone(), 0..2_u8, any::<bool>()).prop_map(
            |(session, user, server, is_first)| {
                Operation::Claim { session, user, server, is_first }
            }
        ),
        8 => (index(), place.clone()).prop_map(|(lease, place)| Operation::Append { lease, place }),
        3 => (index(), place, option::of((0..2_u8, span.clone())))
            .prop_map(|(lease, place, claim)| Operation::End { lease, place, claim }),
        2 => index().prop_map(|write| Operation::SendAgain { write }),
        1 => index().prop_map(|lease| Operation::Release { lease }),
        1 => index().prop_map(|lease| Operation::Draft { lease }),
        1 => (index(), 0..2_u8)
            .prop_map(|(lease, server)| Operation::Impersonate { lease, server }),
        1 => (0..2_u8, option::of((index(), any::<bool>())))
            .prop_map(|(server, abandoned)| Operation::ClaimLapsed { server, abandoned }),
        1 => (0..2_u8).prop_map(|server| Operation::Heartbeat { server }),
        2 => (0..2_u8, user, 0..6_u8, 1..8_u8).prop_map(|(session, user, after, limit)| {
            Operation::Read { session, user, after, limit }
        }),
        3 => (0..2_u8, span.clone())
            .prop_map(|(worker, lease)| Operation::ClaimJob { worker, lease }),
        3 => (index(), any::<bool>())
            .prop_map(|(job, is_failure)| Operation::Finish { job, is_failure }),
        1 => (index(), span, any::<bool>()).prop_map(|(job, delay, is_counted)| {
            Operation::Retry { job, delay, is_counted }
        }),
        1 => index().prop_map(|job| Operation::Renew { job }),
        1 => index().prop_map(|job| Operation::Operate { job }),
    ]
}

/// So many seconds after 1970.
pub(super) fn moment(seconds: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(seconds)
}
