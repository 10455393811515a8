//! Readers that attach while an answer streams, and the order of pieces and events that all readers share.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use duologue_doubles::scripted::Step;
use duologue_engine::provider::{
    Chunk, ModelCall, Provider, ProviderError, Purpose, Request, StopReason,
};
use duologue_protocol::{ServerFrame, TextPieces};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{
    World,
    client::{Answer, Client, is_done, name},
    millis, pass,
    store::{Method, Weather},
};

/// Pseudo-random numbers, so that each run meets other moments.
#[derive(Clone, Copy)]
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// A fast model: pieces come alone or several at once, and only sometimes another task runs in between.
#[derive(Debug)]
struct Fast {
    chunks: u64,
}

impl Provider for Fast {
    fn model(&self) -> &'static str {
        "fast"
    }

    fn calls_tools(&self) -> bool {
        false
    }

    fn generate(&self, request: Request) -> BoxStream<'static, Result<Chunk, ProviderError>> {
        let finished = Chunk::Finished {
            reason: StopReason::Stop,
            usage: None,
        };
        let chunks = if request.purpose == Purpose::Turn {
            self.chunks
        } else {
            1
        };
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + request.messages.len() as u64);
        let pieces = (0..chunks).map(move |number| {
            let count = 1 + dice.throw(4);
            let pieces = (0..count).map(|place| format!("{number}.{place} "));
            (pieces.collect::<TextPieces>(), dice.throw(3) == 0)
        });
        stream::iter(pieces)
            .then(async |(pieces, pauses)| {
                if pauses {
                    tokio::task::yield_now().await;
                }
                Ok(Chunk::Text(pieces))
            })
            .chain(stream::iter([Ok(finished)]))
            .boxed()
    }
}

/// What one reader has received up to the end of the turn; nothing of it comes later.
async fn whole_answer(mut client: Client) -> Answer {
    let answer = client.answer().await;
    let rest = client.settle().await;
    assert!(
        !rest
            .iter()
            .any(|frame| matches!(name(frame), "token" | "draft") || is_done(frame)),
        "pieces follow the end of their turn"
    );
    assert_in_order(&answer.frames);
    answer
}

/// Events are in the order of their numbers, none is missing, and pieces are only sent between the start
/// and the end of their turn.
fn assert_in_order(frames: &[ServerFrame]) {
    let mut last_seq = None;
    let mut has_started = false;
    for frame in frames {
        match frame {
            ServerFrame::Event(event) => {
                assert!(last_seq.is_none_or(|last: u64| event.seq.0 == last + 1));
                last_seq = Some(event.seq.0);
            }
            ServerFrame::Start { .. } | ServerFrame::Draft { .. } => has_started = true,
            ServerFrame::Token { .. } => assert!(has_started, "a piece comes before its turn"),
            _ => {}
        }
    }
}

/// Many readers attach at random moments of an answer that comes as fast as it can, on several threads. Each
/// receives the whole text: no piece is missing, and none comes twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_attach_at_random_moments_miss_nothing_and_receive_nothing_twice() {
    let change = |limits: &mut duologue_engine::Limits| {
        limits.session.readers_max = 100;
        limits.session.reader_frames_max = u16::MAX;
        limits.session.reader_bytes_max = 1 << 30;
    };
    let world = Arc::new(World::with_provider(Arc::new(Fast { chunks: 400 }), change));
    let mut mid_answer = 0;
    let enough = Instant::now() + Duration::from_secs(2);
    for round in 0.. {
        if round >= 20 && (mid_answer > 100 || Instant::now() > enough) {
            break;
        }
        let session = format!("s{round}");
        let first = world.connect(&session).await;
        let mut joining = JoinSet::new();
        first.say("count");
        for number in 0..8 {
            let (world, session) = (Arc::clone(&world), session.clone());
            joining.spawn(async move {
                let mut dice = Dice(round * 64 + number + 1);
                for _ in 0..dice.throw(200) {
                    tokio::task::yield_now().await;
                }
                // One in two catches up with the log, the others start with the answer in progress.
                let after = (number % 2 == 0).then_some(0);
                let client = world.attach(&session, "alice", after).await;
                client.expect("Alice is let in")
            });
        }
        let expected = whole_answer(first).await.done.text;
        for mut client in joining.join_all().await {
            let frames = client.settle().await;
            let has_draft = frames.iter().any(|frame| name(frame) == "draft");
            let is_live = frames
                .iter()
                .any(|frame| matches!(name(frame), "token" | "draft"));
            if is_live && let Some(end) = frames.iter().position(is_done) {
                let answer = Answer::of(frames[..=end].to_vec());
                assert_in_order(&answer.frames);
                assert_eq!(answer.done.text, expected);
                mid_answer += usize::from(has_draft);
            }
        }
    }
    assert!(mid_answer > 0, "no reader attached in mid-answer");
}

/// The store takes its time with each event of a tool call, and the model goes on. All readers receive the
/// pieces before the call, the call, its result, and the pieces after it in the same order.
#[tokio::test(start_paused = true)]
async fn events_keep_their_place_between_the_pieces_for_every_reader() {
    let world = World::with_model_tools(|_| {});
    let piece = |number: usize| Step::Say(format!("{number} "));
    let call = Step::Call(ModelCall {
        id: "call".to_owned(),
        name: "weather".to_owned(),
        arguments: json!({ "city": "Oslo" }),
    });
    world.provider.will((0..50).map(piece).chain([call]));
    world.provider.will((50..100).map(piece));
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(world.connect("s").await);
    }
    clients[0].say("what is the weather?");
    let expected: Vec<_> = std::iter::empty()
        .chain(["user_message", "start", "routed"])
        .chain(["token"; 50])
        .chain(["tool_call", "tool_result"])
        .chain(["token"; 50])
        .chain(["assistant_message"])
        .collect();
    let slow_store = async {
        loop {
            world.store.set(Weather::Hanging, [Method::Append]);
            pass(millis(100)).await;
            world.store.set(Weather::Fair, [Method::Append]);
            pass(millis(1)).await;
        }
    };
    let answers = async {
        for client in clients {
            let answer = whole_answer(client).await;
            let of_the_turn: Vec<_> = answer
                .frames
                .iter()
                .map(name)
                .skip_while(|name| *name != "user_message")
                .collect();
            assert_eq!(of_the_turn, expected);
        }
    };
    tokio::select! {
        () = answers => {}
        () = slow_store => unreachable!("it never ends"),
    }
}
