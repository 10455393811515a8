//! Properties of claims and leases.

use std::{collections::BTreeSet, time::Duration};

use duologue_protocol::{Seq, TurnId, UserId};
use futures_util::future::join_all;

use super::fixture::{
    LONG, SHORT, alice, assert_conflict, claim, claim_of, ended, log, moment, record, said, server,
    session_id, start, start_and_end, started, sweep_by, until,
};
use duologue_engine::store::{
    Abandoned, Claim, Claimed, Draft, Lease, SessionStatus, Store, Sweep,
};

/// A new session has an empty log, and what the claim said.
pub async fn a_claim_creates_the_session(store: &dyn Store) {
    let claimed = claim(store, "s", "here").await;
    assert_eq!(claimed.lease.session_id, session_id("s"));
    assert_eq!(claimed.lease.user_id, alice());
    assert!(!claimed.reopened);
    assert_eq!(claimed.draft, None);
    let session = claimed.session;
    assert_eq!(session.session_id, session_id("s"));
    assert_eq!(session.user_id, alice());
    assert_eq!(session.status, SessionStatus::Active);
    assert_eq!(session.start_time, moment(0));
    assert_eq!(session.end_time, None);
    assert_eq!(session.duration_seconds, None);
    assert_eq!(session.summary, None);
    assert_eq!(session.summary_status, None);
    assert_eq!(session.end_reason, None);
    assert_eq!(session.agent, "guide");
    assert_eq!(session.metadata, serde_json::json!({}));
    assert_eq!(session.last_seq, Seq::ZERO);
    assert_eq!(record(store, "s").await, session);
    assert_eq!(log(store, "s").await, []);
}

/// The old holder is locked out; what the session is does not change with its holder.
pub async fn a_claim_takes_a_session_over_and_raises_its_epoch(store: &dyn Store) {
    let old = start(store, "s").await;
    let claim = Claim {
        agent: "another".to_owned(),
        now: moment(50),
        ..claim_of("s", "there")
    };
    let new = store.claim(&claim).await.unwrap().unwrap();
    assert!(new.lease.epoch > old.epoch);
    assert!(!new.reopened);
    assert_eq!(new.session.agent, "guide");
    assert_eq!(new.session.start_time, moment(0));
    assert_eq!(new.session.last_seq, Seq(1));
    assert_conflict(&store.append(&old, Seq(1), &[said(2, "old")]).await);
    store
        .append(&new.lease, Seq(1), &[said(2, "new")])
        .await
        .unwrap();
}

/// An ended session is active again, without what its ending left, and takes events.
pub async fn a_claim_reopens_an_ended_session(store: &dyn Store) {
    start_and_end(store, "s").await;
    let claimed = claim(store, "s", "there").await;
    assert!(claimed.reopened);
    assert_eq!(claimed.session.status, SessionStatus::Active);
    assert_eq!(claimed.session.end_time, None);
    assert_eq!(claimed.session.duration_seconds, None);
    assert_eq!(claimed.session.end_reason, None);
    assert_eq!(claimed.session.summary_status, None);
    assert_eq!(claimed.session.last_seq, Seq(2));
    assert_eq!(record(store, "s").await, claimed.session);
    let again = said(3, "again");
    store
        .append(&claimed.lease, Seq(2), &[again])
        .await
        .unwrap();
    assert_eq!(log(store, "s").await.len(), 3);
}

/// A server that lost the answer to a claim and repeats it must still learn that the log ends with an
/// ending; once an event follows, it is an open session like any other.
pub async fn a_repeated_claim_still_says_that_the_session_was_reopened(store: &dyn Store) {
    start_and_end(store, "s").await;
    claim(store, "s", "here").await;
    let repeated = claim(store, "s", "here").await;
    assert!(repeated.reopened);
    store
        .append(&repeated.lease, Seq(2), &[said(3, "again")])
        .await
        .unwrap();
    assert!(!claim(store, "s", "here").await.reopened);
}

/// Another user learns nothing of a session, not even that it exists, and cannot take it away.
pub async fn a_foreign_user_gets_nothing_and_disturbs_nothing(store: &dyn Store) {
    let lease = start(store, "s").await;
    let mallory = UserId::new("mallory").expect("a user id");
    let claim = Claim {
        user_id: mallory.clone(),
        ..claim_of("s", "there")
    };
    assert!(store.claim(&claim).await.unwrap().is_none());
    let read = store.read(&mallory, &session_id("s"), Seq::ZERO, 10).await;
    assert_eq!(read.unwrap(), []);
    let session = store.session(&mallory, &session_id("s")).await;
    assert_eq!(session.unwrap(), None);

    let mut stolen = lease.clone();
    stolen.user_id = mallory;
    assert_conflict(&store.append(&stolen, Seq(1), &[said(2, "mine")]).await);
    assert_conflict(&store.end(&stolen, Seq(1), &[ended(2)], None).await);
    store
        .append(&lease, Seq(1), &[said(2, "still Alice's")])
        .await
        .unwrap();
}

/// Claims at the same time queue up: no two get one epoch, and the last one holds the session.
pub async fn of_many_claims_each_gets_an_epoch_of_its_own(store: &dyn Store) {
    let claims = join_all((0..12).map(|n| async move {
        let by = format!("server-{n}");
        claim(store, "s", &by).await.lease
    }))
    .await;
    let epochs: BTreeSet<_> = claims.iter().map(|lease| lease.epoch).collect();
    assert_eq!(epochs.len(), claims.len());
    let last = epochs.last().expect("there are some");
    for lease in &claims {
        let appended = store.append(lease, Seq::ZERO, &[said(1, "me")]).await;
        if lease.epoch == *last {
            appended.unwrap();
        } else {
            assert_conflict(&appended);
        }
    }
}

/// A server that stops leaves its sessions to the next one that looks.
pub async fn a_released_session_lapses_at_once(store: &dyn Store) {
    let lease = start(store, "s").await;
    store.release(&lease).await.unwrap();
    store.release(&lease).await.unwrap();
    let found = swept(store, "there", Duration::ZERO).await;
    assert_eq!(found.session.session_id, session_id("s"));
    assert_eq!(found.session.status, SessionStatus::Active);
    assert!(found.lease.epoch > lease.epoch);
}

/// A release that comes late does not take the session from its new holder.
pub async fn an_old_epoch_releases_nothing(store: &dyn Store) {
    let old = start(store, "s").await;
    let new = claim(store, "s", "there").await.lease;
    store.release(&old).await.unwrap();
    // Lapses meanwhile, so that the sweep finds what there is to find.
    let other = start(store, "other").await;
    store.release(&other).await.unwrap();
    let found = swept(store, "sweeper", Duration::ZERO).await;
    assert_eq!(found.session.session_id, session_id("other"));
    store
        .append(&new, Seq(1), &[said(2, "mine")])
        .await
        .unwrap();
}

/// Two sessions lapse, and only a sweep without grace finds them: the other asks for more patience
/// than any test has.
pub async fn a_lapsed_session_is_claimed_only_after_the_grace(store: &dyn Store) {
    let lease = start(store, "s").await;
    store.release(&lease).await.unwrap();
    let lapsed = until("the lease has lapsed", async || {
        let patient = Sweep {
            grace: LONG,
            ..sweep_by("patient")
        };
        assert_eq!(store.claim_lapsed(&patient).await.unwrap().len(), 0);
        let hasty = store.claim_lapsed(&sweep_by("hasty")).await;
        hasty.unwrap().pop()
    })
    .await;
    assert_eq!(lapsed.session.session_id, session_id("s"));
}

/// Sweepers that look at the same time share what there is, and share it out once.
pub async fn a_lapsed_session_is_claimed_by_one_sweeper_only(store: &dyn Store) {
    let names: Vec<_> = (0..8).map(|n| format!("s{n}")).collect();
    for name in &names {
        let lease = start(store, name).await;
        store.release(&lease).await.unwrap();
    }
    let mut found = Vec::new();
    until("all are found", async || {
        let sweeps = join_all((0..4).map(|n| async move {
            let sweep = sweep_by(&format!("sweeper-{n}"));
            store.claim_lapsed(&sweep).await.unwrap()
        }));
        let claimed = sweeps.await.into_iter().flatten();
        found.extend(claimed.map(|claimed| claimed.session.session_id));
        (found.len() >= names.len()).then_some(())
    })
    .await;
    found.sort();
    let expected: Vec<_> = names.iter().map(|name| session_id(name)).collect();
    assert_eq!(found, expected);
}

/// No sweep takes more than it can look after; later ones take the rest.
pub async fn lapsed_sessions_are_claimed_up_to_the_limit(store: &dyn Store) {
    for name in ["one", "two", "three"] {
        let lease = start(store, name).await;
        store.release(&lease).await.unwrap();
    }
    let mut found = 0;
    until("all three are found", async || {
        let two = Sweep {
            limit: 2,
            ..sweep_by("sweeper")
        };
        let claimed = store.claim_lapsed(&two).await.unwrap();
        assert!(claimed.len() <= 2, "the limit is two");
        found += claimed.len();
        (found == 3).then_some(())
    })
    .await;
}

/// A lease is a server's: its sessions lapse together when its heartbeats stop, and none of another server's.
pub async fn a_servers_sessions_lapse_when_its_heartbeats_stop(store: &dyn Store) {
    let alive = claim(store, "kept", "alive").await.lease;
    for session in ["one", "two"] {
        claim(store, session, "lost").await;
    }
    assert_eq!(beat(store, "alive", LONG, &[]).await, []);
    assert_eq!(beat(store, "lost", SHORT, &[]).await, []);
    let mut found = Vec::new();
    until("both have lapsed", async || {
        let claimed = store.claim_lapsed(&sweep_by("sweeper")).await.unwrap();
        found.extend(
            claimed
                .into_iter()
                .map(|claimed| claimed.session.session_id),
        );
        (found.len() == 2).then_some(())
    })
    .await;
    found.sort();
    assert_eq!(found, [session_id("one"), session_id("two")]);
    assert_eq!(beat(store, "alive", LONG, &[alive]).await, []);
}

/// A server that was only slow goes on. Its next heartbeat holds its sessions again, except the one that another
/// server has claimed meanwhile: a lease that lapses loses nothing by itself.
pub async fn a_late_heartbeat_holds_what_is_not_taken(store: &dyn Store) {
    let held = [start(store, "one").await, start(store, "two").await];
    beat(store, "here", SHORT, &[]).await;
    let taken = swept(store, "there", Duration::ZERO).await;
    let is_taken = |lease: &Lease| lease.session_id == taken.lease.session_id;
    let lost = beat(store, "here", LONG, &held).await;
    assert_eq!(lost.len(), 1);
    assert!(lost.iter().all(is_taken));
    let rest = store.claim_lapsed(&sweep_by("there")).await.unwrap();
    assert_eq!(rest.len(), 0);
    for lease in &held {
        let appended = store.append(lease, Seq(1), &[said(2, "late")]).await;
        if is_taken(lease) {
            assert_conflict(&appended);
        } else {
            appended.unwrap();
        }
    }
}

/// A claim starts the first lease of its server, so that what it claims lapses even if no heartbeat ever comes.
pub async fn a_claim_starts_its_servers_lease(store: &dyn Store) {
    let claim = Claim {
        lease_duration: SHORT,
        ..claim_of("s", "here")
    };
    store.claim(&claim).await.unwrap().unwrap();
    swept(store, "sweeper", Duration::ZERO).await;
}

/// What was released is not lost; what another has claimed since is, and what is not there.
pub async fn a_heartbeat_tells_what_is_lost(store: &dyn Store) {
    let released = start(store, "released").await;
    store.release(&released).await.unwrap();
    let taken = start(store, "taken").await;
    let kept = start(store, "kept").await;
    claim(store, "taken", "there").await;
    let gone = Lease {
        session_id: session_id("never"),
        ..kept.clone()
    };
    let held = [kept, taken.clone(), released, gone.clone()];
    let mut lost = beat(store, "here", LONG, &held).await;
    lost.sort_by(|a, b| a.session_id.cmp(&b.session_id));
    assert_eq!(lost, [gone, taken]);
}

/// An epoch is one claim of one server: under another's name it is not held.
pub async fn nobody_holds_what_another_server_holds(store: &dyn Store) {
    let lease = claim(store, "s", "here").await.lease;
    let lost = beat(store, "there", LONG, std::slice::from_ref(&lease)).await;
    assert_eq!(lost, [lease]);
}

/// A server whose lease lasts names what it holds without a task. It gets that again, under a new epoch, and
/// nothing else: not what another server holds, not under an old epoch, and not for another user.
pub async fn a_server_takes_back_what_it_abandoned(store: &dyn Store) {
    let known = claim(store, "known", "here").await.lease;
    let unknown = claim(store, "unknown", "here").await.lease;
    let stale = claim(store, "stale", "here").await.lease;
    claim(store, "stale", "here").await;
    let taken = claim(store, "taken", "there").await.lease;
    let ended = start_and_end(store, "ended").await;
    claim(store, "kept", "here").await;
    let named = |lease: &Lease, epoch| Abandoned {
        session_id: lease.session_id.clone(),
        user_id: lease.user_id.clone(),
        epoch,
    };
    let sweep = Sweep {
        abandoned: vec![
            named(&known, Some(known.epoch)),
            named(&unknown, None),
            named(&stale, Some(stale.epoch)),
            named(&taken, None),
            named(&ended, None),
            Abandoned {
                user_id: UserId::new("mallory").expect("a user id"),
                ..named(&unknown, None)
            },
            Abandoned {
                session_id: session_id("never"),
                ..named(&known, None)
            },
        ],
        ..sweep_by("here")
    };
    let mut claimed = store.claim_lapsed(&sweep).await.unwrap();
    claimed.sort_by(|a, b| a.lease.session_id.cmp(&b.lease.session_id));
    let found: Vec<_> = claimed
        .iter()
        .map(|claimed| &claimed.lease.session_id)
        .collect();
    assert_eq!(found, [&known.session_id, &unknown.session_id]);
    assert!(claimed[0].lease.epoch > known.epoch);
    // Named again under what was known, it is not claimed again.
    let again = Sweep {
        abandoned: vec![named(&known, Some(known.epoch))],
        ..sweep_by("here")
    };
    assert_eq!(store.claim_lapsed(&again).await.unwrap().len(), 0);
}

/// Each log has an id of its own, which stays when the session changes hands or is reopened.
pub async fn a_log_keeps_its_id(store: &dyn Store) {
    let first = claim(store, "s", "here").await;
    let log_id = first.session.log_id.clone();
    let other = claim(store, "t", "here").await;
    assert_ne!(other.session.log_id, log_id);

    let second = claim(store, "s", "there").await;
    assert_eq!(second.session.log_id, log_id);
    store
        .end(&second.lease, Seq::ZERO, &[started("s"), ended(2)], None)
        .await
        .unwrap();
    let third = claim(store, "s", "here").await;
    assert!(third.reopened);
    assert_eq!(third.session.log_id, log_id);
    assert_eq!(record(store, "s").await.log_id, log_id);
}

/// After a restore from a backup another server may have been given the same epoch.
pub async fn another_server_cannot_write_under_the_same_epoch(store: &dyn Store) {
    let lease = start(store, "s").await;
    let stale = Lease {
        server: server("there"),
        ..lease.clone()
    };
    assert_conflict(&store.append(&stale, Seq(1), &[said(2, "hello")]).await);
    assert_conflict(&store.end(&stale, Seq(1), &[ended(2)], None).await);
    let draft = Draft {
        turn_id: TurnId(1),
        text: "so far".to_owned(),
    };
    let saved = store.save_drafts(&[(stale.clone(), draft)]).await;
    assert_eq!(saved.unwrap(), std::slice::from_ref(&stale));
    // Releases nothing, so the holder goes on.
    store.release(&stale).await.unwrap();
    let appended = store.append(&lease, Seq(1), &[said(2, "hello")]).await;
    appended.unwrap();
}

/// Nobody holds a released session, so nobody writes to it.
pub async fn a_released_session_takes_no_writes(store: &dyn Store) {
    let lease = start(store, "s").await;
    store.release(&lease).await.unwrap();
    assert_conflict(&store.append(&lease, Seq(1), &[said(2, "hello")]).await);
}

/// More than a page of anything, in one call.
pub async fn a_heartbeat_asks_for_a_thousand_sessions(store: &dyn Store) {
    let lease = start(store, "s").await;
    let stale = |number| Lease {
        session_id: session_id(&format!("gone-{number}")),
        ..lease.clone()
    };
    let mut held: Vec<_> = (0..999).map(stale).collect();
    held.push(lease.clone());
    let lost = beat(store, "here", LONG, &held).await;
    assert_eq!(lost.len(), 999);
    assert!(!lost.contains(&lease));
}

/// One harmless round trip.
pub async fn a_store_answers_a_ping(store: &dyn Store) {
    store.ping().await.unwrap();
}

async fn beat(store: &dyn Store, by: &str, lease: Duration, held: &[Lease]) -> Vec<Lease> {
    store.heartbeat(&server(by), lease, held).await.unwrap()
}

/// Sweeps until one lapsed session is found.
async fn swept(store: &dyn Store, by: &str, grace: Duration) -> Claimed {
    let sweep = Sweep {
        grace,
        limit: 1,
        ..sweep_by(by)
    };
    until("a session has lapsed", async || {
        store.claim_lapsed(&sweep).await.unwrap().pop()
    })
    .await
}
