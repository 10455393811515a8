//! Every reader sees the same session, whenever it attaches: nothing missing, nothing twice.

use std::time::Duration;

use duologue_protocol::{EventBody, ServerFrame, TurnId};
use proptest::prelude::*;

use crate::harness::{
    World,
    client::{Client, body, is_done, pieces},
    millis, pass,
    provider::Paced,
};

/// A reader to come: after how long a pause, and how much of the log it knows, as a share of it.
type Coming = (u64, Option<f64>);

fn comings() -> impl Strategy<Value = Vec<Coming>> {
    // An answer takes 400 ms, so that some come before it, many during it, and some after.
    prop::collection::vec((0_u64..120, prop::option::of(0.0..=1.0)), 1..8)
}

/// What a client has seen until the second turn is over.
async fn watch(client: &mut Client) -> Vec<ServerFrame> {
    client
        .until(|frame| match frame {
            ServerFrame::Event(event) => is_done(frame) && event.turn_id == Some(TurnId(2)),
            _ => false,
        })
        .await
}

/// The events that a client was sent, after checking that they follow each other.
fn seqs(frames: &[ServerFrame]) -> Vec<u64> {
    let events = frames.iter().filter_map(|frame| match frame {
        ServerFrame::Event(event) => Some(event.seq.0),
        _ => None,
    });
    let seqs: Vec<u64> = events.collect();
    assert!(
        seqs.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{seqs:?}"
    );
    seqs
}

fn text(frames: &[ServerFrame], turn: u32) -> Option<String> {
    frames.iter().find_map(|frame| match (frame, body(frame)) {
        (ServerFrame::Event(event), Some(EventBody::AssistantMessage(done)))
            if event.turn_id == Some(TurnId(turn)) =>
        {
            Some(done.text.to_string())
        }
        _ => None,
    })
}

async fn attach_at_every_moment(comings: Vec<Coming>) {
    let world = World::with_provider(Paced::boxed(40, millis(10)), |_| {});
    let mut first = world.connect("s").await;
    first.say("one");
    first.say("two");
    let mut clients = Vec::new();
    for (pause, known) in comings {
        pass(millis(pause)).await;
        let last_seq = world.store.log("s").await.len();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the log is short, and the share is between zero and one"
        )]
        let after = known.map(|share| (last_seq as f64 * share) as u64);
        let client = world.attach("s", "alice", after).await;
        clients.push((after, client.expect("there is room")));
    }
    watch(&mut first).await;
    for (after, client) in &mut clients {
        // The session may have said all it has to say before this one came.
        let frames = match after {
            Some(_) => watch(client).await,
            None => client.settle().await,
        };
        let seqs = seqs(&frames);
        if let Some(after) = after {
            assert_eq!(
                seqs.first(),
                Some(&(*after + 1)),
                "it begins where it was left"
            );
        }
        for turn in [1, 2] {
            let shown = pieces(&frames, TurnId(turn)).concat();
            let text = text(&frames, turn);
            // What came before the client did is only in `done`.
            if let Some(text) = text.filter(|_| !shown.is_empty()) {
                assert_eq!(shown, text);
            }
        }
    }
    world.log("s").await;
}

/// Runs a future in a paused runtime of its own.
fn in_paused_time(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.expect("a runtime").block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Readers come at random moments of two turns, with random knowledge of the log. Each one's
    /// events follow each other from where it was, and its deltas make up the answers.
    #[test]
    fn a_reader_may_come_at_every_moment(comings in comings()) {
        in_paused_time(attach_at_every_moment(comings));
    }
}

/// An hour of pauses is nothing in paused time; this one makes sure that time is what it should be.
#[tokio::test(start_paused = true)]
async fn answers_say_how_long_they_took() {
    let world = World::with_provider(Paced::boxed(40, millis(10)), |_| {});
    let mut client = world.connect("s").await;
    client.say("count");
    let done = client.answer().await.done;
    assert_eq!(done.ttft_ms.map(Duration::from_millis), Some(millis(10)));
    assert_eq!(done.duration_ms, 400);
}
