//! Tables of this server's predecessors become ours, and nothing is lost.

use std::collections::{BTreeMap, BTreeSet};

use duologue_engine::store::{Claim, Claimed, ServerId, SessionStatus, Store};
use duologue_integration::{
    postgres::Database,
    store::{OpenStore, config},
};
use duologue_protocol::{
    EndReason, Event, EventBody, FinishReason, Seq, SessionEnded, SessionId, SummaryStatus,
    Timestamp, UserId,
};
use sqlx::{Executor, Row};

use super::{LONG, SCHEMA, empty, migrate, paste, run, supabase, sweep_by, texts};

const FIRST: &str = include_str!("first_layout.sql");
const SECOND: &str = include_str!("second_layout.sql");
const ALICE: &str = "aaaaaaaa-0000-4000-8000-00000000000a";

async fn filled(database: Database, layout: &str) -> Database {
    run(&mut database.connect().await, layout).await.unwrap();
    database
}

/// Every session with its owner.
async fn sessions(database: &Database) -> Vec<(SessionId, UserId)> {
    let sql = "select session_id, user_id from sessions order by 1";
    let rows = database.connect().await.fetch_all(sql).await.unwrap();
    let id = |row: &sqlx::postgres::PgRow| {
        let user = UserId::new(row.get(1)).unwrap();
        (SessionId::new(row.get(0)).unwrap(), user)
    };
    rows.iter().map(id).collect()
}

/// The whole log, read page by page as the server does.
async fn whole_log(store: &dyn Store, session: &SessionId, user: &UserId) -> Vec<Event> {
    let mut log: Vec<Event> = Vec::new();
    loop {
        let after = log.last().map_or(Seq::ZERO, |event| event.seq);
        let page = store.read(user, session, after, 1_000).await.unwrap();
        if page.is_empty() {
            return log;
        }
        log.extend(page);
    }
}

/// What holds for every log.
fn assert_sound(log: &[Event], is_over: bool) {
    assert!(matches!(log[0].body, EventBody::SessionStarted(_)));
    let mut open = None;
    let mut turns = 0;
    let mut calls = BTreeSet::new();
    for (index, event) in log.iter().enumerate() {
        assert_eq!(event.seq.0, index as u64 + 1);
        let earlier = &log[index.saturating_sub(1)];
        assert!(earlier.occurred_at <= event.occurred_at, "{event:?}");
        match &event.body {
            EventBody::UserMessage(_) => {
                assert_eq!(open, None, "{event:?}");
                turns += 1;
                open = event.turn_id;
                assert_eq!(open.map(|turn| turn.0), Some(turns));
            }
            EventBody::ToolCall(call) => {
                assert_eq!(event.turn_id, open);
                assert!(call.arguments.is_object(), "{call:?}");
                assert!(calls.insert(call.call_id.clone()), "{call:?}");
            }
            EventBody::ToolResult(result) => {
                assert_eq!(event.turn_id, open);
                assert!(calls.remove(&result.call_id), "{result:?}");
            }
            EventBody::AssistantMessage(_) => {
                assert!(open.is_some() && event.turn_id == open, "{event:?}");
                assert!(calls.is_empty(), "{calls:?}");
                open = None;
            }
            EventBody::SessionEnded(_) => assert_eq!(index, log.len() - 2),
            EventBody::SessionSummarized(_) => assert_eq!(index, log.len() - 1),
            _ => assert_eq!(event.turn_id, None),
        }
    }
    assert_eq!(open, None);
    let summarized = matches!(
        log.last().map(|event| &event.body),
        Some(EventBody::SessionSummarized(_))
    );
    assert_eq!(summarized, is_over);
}

/// What was said in a log: `> ` by the user, `< ` by the assistant.
fn transcript(log: &[Event]) -> Vec<String> {
    let said = log.iter().filter_map(|event| match &event.body {
        EventBody::UserMessage(message) => Some(format!("> {}", message.text)),
        EventBody::AssistantMessage(answer) if answer.finish_reason == FinishReason::Stop => {
            Some(format!("< {}", answer.text))
        }
        EventBody::AssistantMessage(answer) => Some(format!("< {:?}", answer.finish_reason)),
        _ => None,
    });
    said.collect()
}

fn types(log: &[Event]) -> Vec<&'static str> {
    log.iter().map(|event| event.body.event_type()).collect()
}

/// Every row of both tables, as it is. Their owner's policies may hide some from the owner.
async fn rows(database: &Database, prefix: &str) -> Vec<String> {
    let mut admin = database.connect_as_superuser().await;
    let sql = format!(
        "select to_jsonb(s)::text from {prefix}sessions as s
        union all select to_jsonb(e)::text from {prefix}session_events as e order by 1"
    );
    texts(&mut admin, &sql).await
}

/// Pasted or migrated, both layouts become logs that the server can read, claim and go on with, and
/// the rows of old are still there.
#[tokio::test]
async fn both_layouts_become_sound_logs_and_lose_nothing() {
    for (layout, pasted) in [
        (FIRST, true),
        (FIRST, false),
        (SECOND, true),
        (SECOND, false),
    ] {
        let database = filled(supabase().await, layout).await;
        let before = rows(&database, "").await;
        if pasted {
            paste(&database, SCHEMA).await.unwrap();
            paste(&database, SCHEMA).await.unwrap();
        } else {
            migrate(&database).await;
        }
        assert_eq!(rows(&database, "former_").await, before);

        let store = OpenStore::open(&database.url(), ()).await;
        let mut rows_of_ours = 0;
        for (session, user) in sessions(&database).await {
            let record = store.session(&user, &session).await.unwrap().unwrap();
            let log = whole_log(&*store, &session, &user).await;
            assert_eq!(record.last_seq.0, log.len() as u64);
            assert_sound(&log, record.status == SessionStatus::Completed);
            rows_of_ours += 1 + log.len();
            let claimed = claim(&*store, &session, &user).await;
            end(&*store, &claimed, EndReason::Closed).await;
        }
        assert!(rows_of_ours > before.len(), "{rows_of_ours}");
    }
}

async fn end(store: &dyn Store, claimed: &Claimed, reason: EndReason) {
    let after = claimed.session.last_seq;
    let event = Event {
        seq: after.next(),
        occurred_at: "2027-01-01T00:00:00Z".parse().unwrap(),
        turn_id: None,
        body: EventBody::SessionEnded(SessionEnded { reason }),
    };
    store
        .end(&claimed.lease, after, &[event], None)
        .await
        .unwrap();
}

async fn claim(store: &dyn Store, session: &SessionId, user: &UserId) -> Claimed {
    let claim = Claim {
        session_id: session.clone(),
        user_id: user.clone(),
        agent: "guide".to_owned(),
        server: ServerId("here".to_owned()),
        lease_duration: LONG,
        now: Timestamp::UNIX_EPOCH,
        first_events: Vec::new(),
        spent_since: None,
    };
    store.claim(&claim).await.unwrap().unwrap()
}

/// The first layout, session by session.
#[tokio::test]
async fn the_first_layout_is_translated_as_it_was_meant() {
    let database = filled(empty().await, FIRST).await;
    migrate(&database).await;
    let store = OpenStore::open(&database.url(), ()).await;
    let mut logs = BTreeMap::new();
    for (session, user) in sessions(&database).await {
        logs.insert(
            session.to_string(),
            whole_log(&*store, &session, &user).await,
        );
    }
    let log = |number: u8| &logs[&format!("00000000-0000-4000-8000-00000000000{number}")];

    assert_eq!(
        types(log(1)),
        [
            "session_started",
            "user_message",
            "tool_call",
            "tool_result",
            "assistant_message",
            "imported",
            "session_ended",
            "session_summarized",
        ]
    );
    assert_eq!(
        transcript(log(1)),
        ["> Where is ORD-1?", "< It was shipped."]
    );
    let alice = UserId::new(ALICE).unwrap();
    let id = SessionId::new("00000000-0000-4000-8000-000000000001").unwrap();
    let record = store.session(&alice, &id).await.unwrap().unwrap();
    assert_eq!(record.summary.as_deref(), Some("They asked for an order."));
    assert_eq!(record.summary_status, Some(SummaryStatus::Done));
    assert_eq!(record.duration_seconds, Some(299.877));
    assert_eq!(record.start_time.to_string(), "2025-11-03T10:00:00.123456Z");

    assert_eq!(
        transcript(log(2)),
        [
            "> first",
            "< One answer.",
            "> ",
            "< Interrupted",
            "> third",
            "< Let me see.\n\nHere it is.",
            "> and now?",
            "< Interrupted",
        ]
    );
    assert_eq!(types(log(3)), ["session_started"]);
    assert_eq!(
        types(log(4)),
        ["session_started", "session_ended", "session_summarized"]
    );
    assert_eq!(log(5).len(), 5_004);
    let numbers = transcript(log(5)).into_iter().enumerate();
    for (index, line) in numbers {
        assert!(line.ends_with(&format!(" number {}", index + 1)), "{line}");
    }
    assert_eq!(
        transcript(&logs["former-orphans"]),
        ["> lost", "< Interrupted"]
    );
}

/// The second layout, session by session.
#[tokio::test]
async fn the_second_layout_is_translated_as_it_was_meant() {
    let database = filled(empty().await, SECOND).await;
    migrate(&database).await;
    let store = OpenStore::open(&database.url(), ()).await;
    let alice = UserId::new(ALICE).unwrap();
    let id = SessionId::new("chat-1").unwrap();
    let log = whole_log(&*store, &id, &alice).await;
    assert_eq!(
        types(&log),
        [
            "session_started",
            "user_message",
            "tool_call",
            "tool_result",
            "assistant_message",
            "imported",
            "session_ended",
            "session_summarized",
        ]
    );
    assert_eq!(transcript(&log), ["> Does it rain?", "< It rains."]);
    let record = store.session(&alice, &id).await.unwrap().unwrap();
    assert_eq!(record.duration_seconds, Some(119.5));
    assert_eq!(record.metadata["former"]["channel"], "web");

    // Without a user, it is what a client without a name has.
    let id = SessionId::new("chat-2").unwrap();
    let log = whole_log(&*store, &id, &UserId::anonymous()).await;
    assert_eq!(transcript(&log), ["> Anyone?", "< Interrupted"]);
    // Events whose session was deleted are kept, but not for a client that claims to be its user.
    let gone = SessionId::new("gone").unwrap();
    assert_eq!(whole_log(&*store, &gone, &UserId::anonymous()).await, []);
}

/// Sessions that were left active are what the sweeper looks for; it ends them, and a job follows.
#[tokio::test]
async fn sessions_left_active_are_swept_up_and_summarised() {
    let database = filled(empty().await, FIRST).await;
    paste(&database, SCHEMA).await.unwrap();
    let store = OpenStore::open(&database.url(), ()).await;
    let sweeper = ServerId("sweeper".to_owned());
    let lapsed = store.claim_lapsed(&sweep_by(&sweeper)).await.unwrap();
    let mut ids: Vec<_> = lapsed
        .iter()
        .map(|it| it.lease.session_id.to_string())
        .collect();
    ids.sort();
    let left = [2, 3].map(|number| format!("00000000-0000-4000-8000-00000000000{number}"));
    assert_eq!(ids, left);

    assert_eq!(store.claim_job(&sweeper, LONG).await.unwrap(), None);
    for claimed in lapsed {
        end(&*store, &claimed, EndReason::Abandoned).await;
        assert!(store.claim_job(&sweeper, LONG).await.unwrap().is_some());
    }
}

/// What refers to the old tables would be left behind without a word; so the owner receives a message first.
#[tokio::test]
async fn what_depends_on_the_old_tables_is_named_and_nothing_is_changed() {
    let database = filled(empty().await, FIRST).await;
    let mut connection = database.connect().await;
    let dependents = "
        create view recent as select * from sessions;
        create table ratings (session_id uuid constraint rated references sessions, stars int);
        create table notes (session_id uuid);
        create policy mine on notes using (session_id in (select session_id from sessions))";
    run(&mut connection, dependents).await.unwrap();
    let told = paste(&database, SCHEMA).await.unwrap_err().to_string();
    for name in [
        "view recent",
        "foreign key rated of table ratings",
        "policy mine of table notes",
    ] {
        assert!(told.contains(name), "{told}");
    }
    let error = duologue_store::migrate(&config(&database.url()))
        .await
        .unwrap_err();
    let told = format!("{:#}", anyhow::Error::from(error));
    assert!(told.contains("view recent"), "{told}");
    let tables = "select relname::text from pg_class where relnamespace = 'public'::regnamespace
        and relkind = 'r' order by 1";
    let untouched = ["notes", "ratings", "session_events", "sessions"];
    assert_eq!(texts(&mut connection, tables).await, untouched);

    let drop = "drop view recent; drop table ratings; drop table notes";
    run(&mut connection, drop).await.unwrap();
    paste(&database, SCHEMA).await.unwrap();
}

/// Tables that merely bear these names are somebody's own.
#[tokio::test]
async fn tables_of_another_kind_are_left_alone() {
    for (table, layout) in [
        ("sessions", "create table sessions (id int, cookie text)"),
        ("session_events", "create table session_events (id int)"),
    ] {
        let database = filled(empty().await, layout).await;
        let told = paste(&database, SCHEMA).await.unwrap_err().to_string();
        let expected = format!("already has a table {table} that this script does not know");
        assert!(told.contains(&expected), "{told}");
    }
}

/// The tables set aside are as private as ours, whatever their owner's policies said.
#[tokio::test]
async fn what_is_set_aside_is_out_of_everybodys_reach() {
    let database = filled(supabase().await, FIRST).await;
    paste(&database, SCHEMA).await.unwrap();
    let mut admin = database.connect_as_superuser().await;
    for role in ["anon", "authenticated", "service_role"] {
        for table in ["former_sessions", "former_session_events"] {
            let sql = format!("select has_table_privilege('{role}', '{table}', 'select')::text");
            assert_eq!(texts(&mut admin, &sql).await, ["false"]);
        }
    }
    let open = "select relname::text from pg_class where relnamespace = 'public'::regnamespace
        and relkind = 'r' and not (relrowsecurity and relforcerowsecurity)";
    assert_eq!(texts(&mut admin, open).await, [""; 0]);
}
