//! The writer with a database that answers as each test says.

#![expect(
    clippy::disallowed_methods,
    reason = "a test waits for the tasks that it starts, and has few calls to queue"
)]

use std::{sync::Arc, time::Duration};

use duologue_engine::store::StoreError;
use duologue_protocol::SessionId;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{advance, timeout},
};

use super::{BATCH_BYTES_MAX, BatchLimits, BatchWriter, GATHERING_TIME};
use crate::functions::{
    batch::{Answer, Kind},
    call::{Call, CallFailure, FunctionCaller, Repetition},
    round_trip::RoundTrip,
};

/// Long enough for whatever must happen, on a clock that only advances while nothing else does.
const LONG: Duration = Duration::from_hours(1);

const LIMITS: BatchLimits = BatchLimits {
    batch_max: 4,
    queue_max: 8,
    queue_timeout: Duration::from_secs(2),
    lock_timeout: Duration::from_secs(1),
};

/// A call that waits for its answer.
struct Received {
    batch: Value,
    repetition: Repetition,
    reply: oneshot::Sender<Result<Value, CallFailure>>,
}

impl Received {
    fn answer(self, answers: Value) {
        self.reply.send(Ok(answers)).expect("the writer waits");
    }

    /// All writes were carried out.
    fn carry_out(self) {
        self.answer(json!({}));
    }

    fn fail(self, failure: fn(duologue_engine::BoxError) -> CallFailure) {
        self.reply
            .send(Err(failure("as the test says".into())))
            .expect("the writer waits");
    }

    /// The names of the writes of a kind.
    fn names(&self, kind: &str) -> Vec<&str> {
        let writes = self.batch[kind].as_array().map_or(&[][..], Vec::as_slice);
        writes
            .iter()
            .map(|name| name.as_str().expect("a name"))
            .collect()
    }
}

struct Script(mpsc::UnboundedSender<Received>);

impl FunctionCaller for Script {
    async fn call<T>(&self, call: &Call) -> Result<T, CallFailure>
    where
        T: DeserializeOwned + Send,
    {
        let arguments: Value = serde_json::from_str(&call.arguments_json()).expect("it is JSON");
        let (reply, answer) = oneshot::channel();
        let received = Received {
            batch: arguments["batch"].clone(),
            repetition: call.repetition,
            reply,
        };
        self.0.send(received).expect("the test goes on");
        let answer = answer.await.expect("the test answers")?;
        Ok(serde_json::from_value(answer).expect("what the test says fits"))
    }

    async fn close(&self) {}
}

struct Scene {
    writer: Arc<BatchWriter>,
    calls: mpsc::UnboundedReceiver<Received>,
    round_trip: Arc<RoundTrip>,
}

impl Scene {
    fn new(limits: BatchLimits) -> Self {
        let (script, calls) = mpsc::unbounded_channel();
        let round_trip = Arc::<RoundTrip>::default();
        let writer = BatchWriter::start(Arc::new(Script(script)), limits, Arc::clone(&round_trip));
        Self {
            writer: Arc::new(writer),
            calls,
            round_trip,
        }
    }

    /// Makes a write of a session, named `session` or `session.something`.
    async fn write(&self, kind: Kind, name: &str) -> JoinHandle<Result<Answer, StoreError>> {
        let session = name.split('.').next().map(|id| SessionId::new(id).unwrap());
        let session = session.filter(|_| kind != Kind::JobClaims);
        let (writer, item) = (Arc::clone(&self.writer), json!(name).to_string());
        let write = async move { writer.write(kind, session.as_ref(), item).await };
        let write = tokio::spawn(write);
        settle().await;
        write
    }

    async fn append(&self, name: &str) -> JoinHandle<Result<Answer, StoreError>> {
        self.write(Kind::Appends, name).await
    }

    async fn call(&mut self) -> Received {
        let call = timeout(LONG, self.calls.recv()).await;
        call.expect("the writer sends a batch")
            .expect("the writer goes on")
    }

    async fn assert_quiet(&mut self) {
        settle().await;
        assert!(self.calls.try_recv().is_err(), "nothing is sent");
    }
}

/// Lets every task come as far as it comes without a clock.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[track_caller]
fn assert_unavailable(result: &Result<Answer, StoreError>) {
    assert!(
        matches!(result, Err(StoreError::Unavailable(_))),
        "{result:?}"
    );
}

/// Nothing is waited for that might come along; and what comes meanwhile goes together, by its kinds.
#[tokio::test(start_paused = true)]
async fn a_lone_write_is_sent_at_once_and_what_arrives_meanwhile_is_the_next_batch() {
    let mut scene = Scene::new(LIMITS);
    let lone = scene.append("a").await;
    let first = scene.calls.try_recv().expect("it is sent without a wait");
    assert_eq!(first.batch, json!({ "appends": ["a"] }));
    let meanwhile = [
        scene.write(Kind::Ends, "b").await,
        scene.append("c").await,
        scene.write(Kind::Ends, "d").await,
    ];
    scene.assert_quiet().await;
    first.carry_out();
    assert_eq!(lone.await.unwrap().unwrap(), Value::Null);
    let second = scene.call().await;
    assert_eq!(
        second.batch,
        json!({ "appends": ["c"], "ends": ["b", "d"] })
    );
    second.answer(json!({ "ends": { "1": "conflict" } }));
    let mut answers = Vec::new();
    for write in meanwhile {
        answers.push(write.await.unwrap().unwrap());
    }
    assert_eq!(answers, [Value::Null, Value::Null, json!("conflict")]);
}

/// Neither a lone one nor an urgent one that passes makes a call of its own out of them; and a writer that closes
/// does not wait.
#[tokio::test(start_paused = true)]
async fn writes_that_are_not_urgent_are_gathered() {
    let mut scene = Scene::new(LIMITS);
    let mut writes = vec![scene.write(Kind::Results, "a").await];
    scene.assert_quiet().await;
    advance(GATHERING_TIME / 2).await;
    writes.push(scene.append("b").await);
    let urgent = scene.call().await;
    assert_eq!(urgent.batch, json!({ "appends": ["b"] }));
    urgent.carry_out();
    writes.push(scene.write(Kind::JobClaims, "c").await);
    writes.push(scene.write(Kind::Results, "d").await);
    scene.assert_quiet().await;
    advance(GATHERING_TIME / 2).await;
    let gathered = scene.call().await;
    let expected = json!({ "results": ["a", "d"], "job_claims": ["c"] });
    assert_eq!(gathered.batch, expected);
    gathered.carry_out();
    writes.push(scene.write(Kind::Results, "e").await);
    let closing = Arc::clone(&scene.writer);
    let closed = tokio::spawn(async move { closing.close().await });
    settle().await;
    let last = scene.calls.try_recv().expect("it is sent at once");
    assert_eq!(last.batch, json!({ "results": ["e"] }));
    last.carry_out();
    for write in writes {
        write.await.unwrap().unwrap();
    }
    closed.await.unwrap();
}

/// Else one could overtake the other, or both meet in one statement.
#[tokio::test(start_paused = true)]
async fn writes_of_one_session_are_in_batches_of_their_own_and_in_order() {
    let mut scene = Scene::new(LIMITS);
    let mut writes = vec![scene.append("other").await];
    let first = scene.call().await;
    for name in ["s.1", "s.2", "t.1"] {
        writes.push(scene.append(name).await);
    }
    writes.push(scene.write(Kind::Ends, "s.3").await);
    first.carry_out();
    for expected in [&["s.1", "t.1"][..], &["s.2"]] {
        let call = scene.call().await;
        assert_eq!(call.names("appends"), expected);
        call.carry_out();
    }
    let last = scene.call().await;
    assert_eq!(last.names("ends"), ["s.3"]);
    last.carry_out();
    for write in writes {
        write.await.unwrap().unwrap();
    }
}

/// By their number, and by their size; but a write that is larger than a batch goes alone.
#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded() {
    let mut scene = Scene::new(LIMITS);
    let large = |name: &str| format!("{name}.{}", "x".repeat(BATCH_BYTES_MAX / 2));
    let mut writes = vec![scene.append("first").await];
    let first = scene.call().await;
    for number in 0..5 {
        writes.push(scene.append(&format!("s{number}")).await);
    }
    writes.push(scene.append(&large("large")).await);
    writes.push(
        scene
            .append(&format!("{}{}", large("huge"), large("r")))
            .await,
    );
    writes.push(scene.append("last").await);
    first.carry_out();
    let mut sessions: Vec<Vec<String>> = Vec::new();
    for _ in 0..4 {
        let call = scene.call().await;
        let names = call.names("appends").into_iter();
        sessions.push(
            names
                .map(|name| name.split('.').next().unwrap().to_owned())
                .collect(),
        );
        call.carry_out();
    }
    let expected: [&[&str]; 4] = [
        &["s0", "s1", "s2", "s3"],
        &["s4", "large"],
        &["huge"],
        &["last"],
    ];
    assert_eq!(sessions, expected);
    for write in writes {
        write.await.unwrap().unwrap();
    }
}

/// The bad one is found by halves: the others are stored, whatever they share with it.
#[tokio::test(start_paused = true)]
async fn one_write_that_is_rejected_does_not_fail_the_others() {
    let mut scene = Scene::new(LIMITS);
    let first = scene.append("first").await;
    let call = scene.call().await;
    let mut writes = Vec::new();
    for name in ["a", "b", "bad", "c"] {
        writes.push((name, scene.append(name).await));
    }
    call.carry_out();
    first.await.unwrap().unwrap();
    let mut sizes = Vec::new();
    while sizes.len() < 5 {
        let call = scene.call().await;
        sizes.push(call.names("appends").len());
        if call.names("appends").contains(&"bad") {
            call.fail(CallFailure::Rejected);
        } else {
            call.carry_out();
        }
    }
    assert_eq!(sizes, [4, 2, 2, 1, 1]);
    for (name, write) in writes {
        match write.await.unwrap() {
            Ok(_) => assert_ne!(name, "bad"),
            Err(error) => {
                assert_eq!(name, "bad");
                assert!(matches!(error, StoreError::Corrupt(_)), "{error:?}");
            }
        }
    }
}

/// A failure that may pass is everybody's, and each repeats its own write.
#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_as_a_whole_makes_all_its_writes_unavailable() {
    let mut scene = Scene::new(LIMITS);
    let first = scene.append("first").await;
    let call = scene.call().await;
    let others = [scene.append("a").await, scene.append("b").await];
    call.carry_out();
    first.await.unwrap().unwrap();
    scene.call().await.fail(CallFailure::Unavailable);
    for write in others {
        assert_unavailable(&write.await.unwrap());
    }
    scene.assert_quiet().await;
}

/// It goes with a later batch, before which no other write of its session goes; and not without limit.
#[tokio::test(start_paused = true)]
async fn a_write_whose_row_is_locked_is_sent_again_until_its_time_is_over() {
    let mut scene = Scene::new(LIMITS);
    let locked = json!({ "appends": { "0": "locked" } });
    let one = scene.append("s.1").await;
    scene.call().await.answer(locked.clone());
    let two = scene.append("s.2").await;
    scene.assert_quiet().await;
    let again = scene.call().await;
    assert_eq!(again.names("appends"), ["s.1"]);
    again.carry_out();
    one.await.unwrap().unwrap();

    // The second one stays locked. A write of another session goes beside it.
    scene.call().await.answer(locked.clone());
    let other = scene.append("t").await;
    scene.call().await.carry_out();
    other.await.unwrap().unwrap();
    let mut attempts = 0;
    while !two.is_finished() {
        let Ok(Some(call)) = timeout(LIMITS.lock_timeout, scene.calls.recv()).await else {
            break;
        };
        attempts += 1;
        call.answer(locked.clone());
        settle().await;
    }
    assert!(attempts > 10, "it was sent {attempts} times");
    assert_unavailable(&two.await.unwrap());
}

/// A write that is on its way goes on, and its place is freed when it is back. One that has not left does not
/// leave any more.
#[tokio::test(start_paused = true)]
async fn a_caller_that_has_gone_stops_no_batch() {
    let mut scene = Scene::new(LIMITS);
    let gone = scene.append("s.1").await;
    let call = scene.call().await;
    gone.abort();
    let never_sent = scene.append("t").await;
    let next = scene.append("s.2").await;
    never_sent.abort();
    scene.assert_quiet().await;
    call.carry_out();
    let call = scene.call().await;
    assert_eq!(call.names("appends"), ["s.2"]);
    call.carry_out();
    next.await.unwrap().unwrap();
}

/// A claim of a job that is repeated takes another job. What shared its batch is repeated without it.
#[tokio::test(start_paused = true)]
async fn of_a_lost_batch_only_what_may_be_repeated_is_sent_again() {
    let mut scene = Scene::new(LIMITS);
    let first = scene.append("first").await;
    let call = scene.call().await;
    assert_eq!(call.repetition, Repetition::Harmless);
    let claim = scene.write(Kind::JobClaims, "job").await;
    let append = scene.append("a").await;
    advance(GATHERING_TIME).await;
    call.carry_out();
    first.await.unwrap().unwrap();
    let call = scene.call().await;
    assert_eq!(
        call.batch,
        json!({ "appends": ["a"], "job_claims": ["job"] })
    );
    assert_eq!(call.repetition, Repetition::TakesMore);
    call.fail(CallFailure::Lost);
    let call = scene.call().await;
    assert_eq!(call.batch, json!({ "appends": ["a"] }));
    assert_eq!(call.repetition, Repetition::Harmless);
    call.carry_out();
    assert_unavailable(&claim.await.unwrap());
    append.await.unwrap().unwrap();
}

/// Where a round trip takes long, the next batch does not wait for the one before; but its sessions do. That a batch
/// takes long is not enough.
#[tokio::test(start_paused = true)]
async fn two_batches_are_on_their_way_only_where_the_database_is_far() {
    let mut scene = Scene::new(LIMITS);
    scene.round_trip.observe(Duration::from_millis(1));
    for number in 0..10 {
        let write = scene.append(&format!("s{number}")).await;
        let call = scene.call().await;
        let other = scene.append("other").await;
        advance(Duration::from_millis(20)).await;
        scene.assert_quiet().await;
        call.carry_out();
        scene.call().await.carry_out();
        write.await.unwrap().unwrap();
        other.await.unwrap().unwrap();
    }
    for _ in 0..5 {
        scene.round_trip.observe(Duration::from_millis(20));
    }
    let writes = [
        scene.append("s.1").await,
        scene.append("t").await,
        scene.append("s.2").await,
        scene.append("u").await,
    ];
    let (one, two) = (scene.call().await, scene.call().await);
    assert_eq!(
        (one.names("appends"), two.names("appends")),
        (vec!["s.1"], vec!["t"])
    );
    scene.assert_quiet().await;
    two.carry_out();
    let three = scene.call().await;
    assert_eq!(three.names("appends"), ["u"]);
    three.carry_out();
    one.carry_out();
    scene.call().await.carry_out();
    for write in writes {
        write.await.unwrap().unwrap();
    }
}

/// The queue is bounded, and so is the time in it.
#[tokio::test(start_paused = true)]
async fn a_write_that_waits_too_long_for_its_batch_is_unavailable() {
    let mut scene = Scene::new(LIMITS);
    let first = scene.append("first").await;
    let call = scene.call().await;
    let mut waiting = Vec::new();
    for number in 0..3 * LIMITS.queue_max {
        waiting.push(scene.append(&format!("s{number}")).await);
    }
    advance(LIMITS.queue_timeout).await;
    for write in waiting {
        assert_unavailable(&write.await.unwrap());
    }
    call.carry_out();
    first.await.unwrap().unwrap();
    scene.assert_quiet().await;
}

#[tokio::test(start_paused = true)]
async fn closing_carries_out_what_is_queued_and_accepts_no_more() {
    let mut scene = Scene::new(LIMITS);
    let first = scene.append("first").await;
    let call = scene.call().await;
    let queued = scene.append("queued").await;
    let writer = Arc::clone(&scene.writer);
    let closing = tokio::spawn(async move { writer.close().await });
    settle().await;
    let late = scene.append("late").await;
    assert_unavailable(&late.await.unwrap());
    call.carry_out();
    scene.call().await.carry_out();
    first.await.unwrap().unwrap();
    queued.await.unwrap().unwrap();
    closing.await.unwrap();
}
