//! Properties of the log: its order, its fences, and reading it.

use duologue_protocol::{Event, Seq};
use futures_util::future::{join, join_all};

use super::fixture::{
    alice, answered, assert_conflict, claim, log, record, said, session_id, start, started,
};
use duologue_engine::store::Store;

/// Appended in three calls, read in one.
pub async fn events_are_read_back_in_order(store: &dyn Store) {
    let lease = start(store, "s").await;
    store
        .append(&lease, Seq(1), &[said(2, "b"), answered(3, "c")])
        .await
        .unwrap();
    store.append(&lease, Seq(3), &[said(4, "d")]).await.unwrap();
    let expected = [started("s"), said(2, "b"), answered(3, "c"), said(4, "d")];
    assert_eq!(log(store, "s").await, expected);
    assert_eq!(record(store, "s").await.last_seq, Seq(4));
}

/// The log has one event; the third cannot come next.
pub async fn an_append_that_would_leave_a_gap_conflicts(store: &dyn Store) {
    let lease = start(store, "s").await;
    assert_conflict(&store.append(&lease, Seq(2), &[said(3, "too far")]).await);
    assert_eq!(log(store, "s").await, [started("s")]);
    assert_eq!(record(store, "s").await.last_seq, Seq(1));
}

/// A position that is taken stays as it is.
pub async fn an_append_behind_the_end_conflicts(store: &dyn Store) {
    let lease = start(store, "s").await;
    store
        .append(&lease, Seq(1), &[said(2, "first")])
        .await
        .unwrap();
    assert_conflict(&store.append(&lease, Seq(1), &[said(2, "second")]).await);
    assert_eq!(log(store, "s").await, [started("s"), said(2, "first")]);
}

/// The first of the two events is stored already, so the call is neither new nor a repetition.
pub async fn an_append_is_all_or_none(store: &dyn Store) {
    let lease = start(store, "s").await;
    store.append(&lease, Seq(1), &[said(2, "b")]).await.unwrap();
    assert_conflict(
        &store
            .append(&lease, Seq(1), &[said(2, "b"), said(3, "c")])
            .await,
    );
    assert_eq!(log(store, "s").await, [started("s"), said(2, "b")]);
    assert_eq!(record(store, "s").await.last_seq, Seq(2));
}

/// Also when the log has gone on since.
pub async fn a_repeated_append_changes_nothing(store: &dyn Store) {
    let lease = start(store, "s").await;
    let events = [said(2, "b"), answered(3, "c")];
    store.append(&lease, Seq(1), &events).await.unwrap();
    store.append(&lease, Seq(1), &events).await.unwrap();
    store.append(&lease, Seq(3), &[said(4, "d")]).await.unwrap();
    store.append(&lease, Seq(1), &events).await.unwrap();
    let expected = [started("s"), said(2, "b"), answered(3, "c"), said(4, "d")];
    assert_eq!(log(store, "s").await, expected);
}

/// A server that lost the answer learns that the events are stored, even if another one has the session
/// now. But the same events under another lease are not a repetition.
pub async fn a_repeated_append_succeeds_after_the_session_has_moved(store: &dyn Store) {
    let old = start(store, "s").await;
    store.append(&old, Seq(1), &[said(2, "b")]).await.unwrap();
    let new = claim(store, "s", "there").await.lease;
    store.append(&old, Seq(1), &[said(2, "b")]).await.unwrap();
    assert_conflict(&store.append(&new, Seq(1), &[said(2, "b")]).await);
    assert_eq!(log(store, "s").await, [started("s"), said(2, "b")]);
}

/// A server that lost its session without noticing can do no harm.
pub async fn an_old_epoch_cannot_append(store: &dyn Store) {
    let old = start(store, "s").await;
    claim(store, "s", "there").await;
    assert_conflict(&store.append(&old, Seq(1), &[said(2, "late")]).await);
    assert_eq!(log(store, "s").await, [started("s")]);
}

/// Both start from the same end of the log. The loser's event is nowhere.
pub async fn of_two_appends_at_one_position_one_wins(store: &dyn Store) {
    let lease = start(store, "s").await;
    let (one, other) = ([said(2, "one")], [said(2, "other")]);
    let results = join(
        store.append(&lease, Seq(1), &one),
        store.append(&lease, Seq(1), &other),
    )
    .await;
    let winner = match results {
        (Ok(()), lost) => {
            assert_conflict(&lost);
            one
        }
        (lost, won) => {
            won.unwrap();
            assert_conflict(&lost);
            other
        }
    };
    assert_eq!(log(store, "s").await[1..], winner);
}

/// Many sessions grow at the same time, each in its own order.
pub async fn appends_to_many_sessions_at_once_leave_no_gaps(store: &dyn Store) {
    let names: Vec<_> = (0..12).map(|n| format!("s{n}")).collect();
    join_all(names.iter().map(|name| async move {
        let lease = start(store, name).await;
        for seq in 1..10 {
            let event = said(seq + 1, &format!("{name} {seq}"));
            store.append(&lease, Seq(seq), &[event]).await.unwrap();
        }
    }))
    .await;
    for name in &names {
        let said = (1..10).map(|seq| said(seq + 1, &format!("{name} {seq}")));
        let expected: Vec<_> = std::iter::once(started(name)).chain(said).collect();
        assert_eq!(log(store, name).await, expected);
    }
}

/// Pages of four of a log of ten: no event twice, none left out, and nothing after the end.
pub async fn a_log_is_read_in_pages(store: &dyn Store) {
    let lease = start(store, "s").await;
    let events: Vec<_> = (2..=10).map(|seq| said(seq, "text")).collect();
    store.append(&lease, Seq(1), &events).await.unwrap();
    let mut pages: Vec<Vec<Event>> = Vec::new();
    let mut after = Seq::ZERO;
    loop {
        let page = store
            .read(&alice(), &session_id("s"), after, 4)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = last.seq;
        pages.push(page);
    }
    let lengths: Vec<_> = pages.iter().map(Vec::len).collect();
    assert_eq!(lengths, [4, 4, 2]);
    assert_eq!(pages.concat(), log(store, "s").await);
    let beyond = store.read(&alice(), &session_id("s"), Seq(99), 4).await;
    assert_eq!(beyond.unwrap(), []);
}

/// Nothing is there, and that is not an error.
pub async fn an_unknown_session_reads_empty(store: &dyn Store) {
    let id = session_id("nowhere");
    assert_eq!(store.read(&alice(), &id, Seq::ZERO, 10).await.unwrap(), []);
    assert_eq!(store.session(&alice(), &id).await.unwrap(), None);
}
