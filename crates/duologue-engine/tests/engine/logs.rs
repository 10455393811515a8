//! What the engine's log entries name, so that an operator finds all entries of one session.

use std::{
    io,
    sync::{Arc, Mutex},
};

use duologue_doubles::scripted::Step;
use duologue_engine::{SessionIdHash, provider::ProviderError};
use serde_json::{Value, json};

use crate::harness::{World, session_id};

/// The log of this thread, as JSON lines.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no holder panics").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Captured {
    fn clear(&self) {
        self.0.lock().expect("no holder panics").clear();
    }

    /// The entries with this message.
    fn entries(&self, message: &str) -> Vec<Value> {
        let bytes = self.0.lock().expect("no holder panics").clone();
        let text = String::from_utf8(bytes).expect("a log is text");
        let entries = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
        entries
            .filter(|entry| entry["fields"]["message"] == message)
            .collect()
    }
}

/// The values of a field in the spans of an entry.
fn in_spans<'a>(entry: &'a Value, field: &str) -> Vec<&'a Value> {
    let spans = entry["spans"]
        .as_array()
        .unwrap_or_else(|| panic!("an entry without spans: {entry}"));
    spans.iter().filter_map(|span| span.get(field)).collect()
}

/// Runs a turn in another session. Tests on other threads, which have no subscriber, may be the first to
/// use a span, and may then have disabled it for all threads; after this turn all spans are known, and
/// are enabled again.
async fn warm_up(world: &World) {
    world
        .provider
        .will([Step::Fail(ProviderError::Refused("a wrong key".into()))]);
    let mut client = world.connect("other").await;
    client.say("hi");
    client.answer().await;
    tracing::callsite::rebuild_interest_cache();
}

/// A turn that starts at once belongs to the request that caused it. The message of a turn that was
/// queued may outlive its connection, so that turn names its session only.
#[tokio::test(start_paused = true)]
async fn a_failed_turn_names_its_session_and_its_request() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let world = World::start();
    warm_up(&world).await;
    captured.clear();
    let refuse = || Step::Fail(ProviderError::Refused("a wrong key".into()));
    world.provider.will([Step::Hold("first"), refuse()]);
    world.provider.will([refuse()]);
    let mut client = world.connect("s").await;
    tracing::info_span!("request", request.id = "r1").in_scope(|| client.say("hi"));
    tracing::info_span!("request", request.id = "r2").in_scope(|| client.say("and this"));
    world.provider.release("first");
    client.answer().await;
    client.answer().await;

    let failed = captured.entries("turn.failed");
    let [first, queued] = &failed[..] else {
        panic!("two turns failed: {failed:?}");
    };
    let session = json!(SessionIdHash::from(&session_id("s")).to_string());
    for entry in [first, queued] {
        assert!(in_spans(entry, "session.id").contains(&&session), "{entry}");
    }
    assert_eq!(in_spans(first, "request.id"), [&json!("r1")]);
    assert_eq!(in_spans(queued, "request.id"), [] as [&Value; 0]);
}
