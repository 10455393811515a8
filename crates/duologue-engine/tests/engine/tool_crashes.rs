//! A server is lost between a tool's call and its result. The tools write into a ledger that is
//! outside of every server, as real ones do.

use duologue_engine::store::{Claim, ServerId, SessionStatus};
use duologue_protocol::{
    CallId, Event, EventBody, FinishReason, Seq, SessionStarted, ToolCall, ToolOutcome, TurnId,
    UserMessage,
};
use jiff::Timestamp;
use serde_json::json;

use crate::harness::{
    World, alice,
    client::{body, is_done},
    log::types,
    pass, seconds, session_id,
    tool::Act,
};

const REQUEST: &str = "where is my order ORD-1";

/// A server whose tool is at work, and the one that takes its session over. The first learns of it as
/// late as a paused machine does, and can do nothing any more, since its epoch is over.
async fn lose_at_work(settings: &str) -> (World, World) {
    let lost = World::with_order_tool(settings);
    lost.tools.will("fetch_order", Act::Hang);
    let client = lost.connect("s").await;
    client.say(REQUEST);
    lost.tools.wait_for_uses(1).await;
    let next = lost.next("there");
    (lost, next)
}

const IDEMPOTENT: &str = "idempotent = true";

/// Nobody knows whether the first call had its effect, so there is no second one. The model and the
/// user receive this.
#[tokio::test(start_paused = true)]
async fn a_call_that_was_cut_off_is_not_made_again() {
    let (_lost, next) = lose_at_work("").await;
    let mut client = next.resume("s", 0).await;
    let frames = client.until(is_done).await;
    let results: Vec<_> = frames.iter().filter_map(body).collect();
    let Some(EventBody::ToolResult(result)) = results
        .iter()
        .find(|body| matches!(body, EventBody::ToolResult(_)))
    else {
        panic!("the call has a result");
    };
    assert!(matches!(&result.outcome, ToolOutcome::Error(why) if why.contains("stopped")));
    let Some(EventBody::AssistantMessage(done)) = results.last() else {
        panic!("the turn is closed");
    };
    assert_eq!(done.finish_reason, FinishReason::Interrupted);
    pass(seconds(20)).await;
    assert_eq!(next.tools.uses().len(), 1, "one effect at most");
    next.log("s").await;
}

/// The duration of a turn whose server was lost is that of its log: from the user's message to the event
/// that closes the turn.
#[tokio::test(start_paused = true)]
async fn a_turn_that_was_cut_off_states_how_long_it_was_open() {
    let (_lost, next) = lose_at_work("").await;
    pass(seconds(5)).await;
    next.resume("s", 0).await.until(is_done).await;
    let events = next.log("s").await;
    let at = |wanted: &str| {
        let event = events
            .iter()
            .find(|event| event.body.event_type() == wanted);
        event.expect("the turn is in the log")
    };
    let (start, end) = (at("user_message"), at("assistant_message"));
    let EventBody::AssistantMessage(done) = &end.body else {
        panic!("the turn is closed");
    };
    let open = end.occurred_at.duration_since(start.occurred_at);
    assert_eq!(i128::from(done.duration_ms), open.as_millis());
    assert!(done.duration_ms >= 5000, "{}", done.duration_ms);
}

/// The agent says that the tool may be called twice. It is called again under the same name, and the
/// turn goes on to its answer, which clients that come back receive.
#[tokio::test(start_paused = true)]
async fn an_idempotent_call_that_was_cut_off_is_made_again_and_the_turn_goes_on() {
    let (_lost, next) = lose_at_work(IDEMPOTENT).await;
    next.tools
        .will("fetch_order", Act::Answer(json!({ "status": "shipped" })));
    next.provider.will_say("It is on its way.");
    let mut client = next.resume("s", 0).await;
    let frames = client.until(is_done).await;
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("the turn has an end");
    };
    assert_eq!(done.finish_reason, FinishReason::Stop);
    assert_eq!(&*done.text, "It is on its way.");
    let uses = next.tools.uses();
    assert_eq!(uses.len(), 2);
    assert_eq!(uses[0].call_id, uses[1].call_id);
    assert_eq!(uses[0].arguments, uses[1].arguments);
    let told = format!("{:?}", next.provider.requests()[0].messages);
    assert!(told.contains("shipped") && told.contains(REQUEST), "{told}");
    let log = next.log("s").await;
    let count = |name| types(&log).iter().filter(|other| **other == name).count();
    assert_eq!(
        (
            count("user_message"),
            count("tool_call"),
            count("tool_result")
        ),
        (1, 1, 1)
    );
    // And the conversation goes on from there.
    next.provider.will_say("You are welcome.");
    client.say("thanks");
    assert_eq!(client.answer().await.turn_id, TurnId(2));
    next.log("s").await;
}

/// The call takes its server down each time. It is made again once, and then no more.
#[tokio::test(start_paused = true)]
async fn a_call_that_kills_every_server_is_made_twice_at_most() {
    let (_lost, second) = lose_at_work(IDEMPOTENT).await;
    second.tools.will("fetch_order", Act::Hang);
    let client = second.connect("s").await;
    second.tools.wait_for_uses(2).await;
    let third = second.next("third");
    let mut returned = third.resume("s", 0).await;
    let frames = returned.until(is_done).await;
    let Some(EventBody::AssistantMessage(done)) = frames.last().and_then(body) else {
        panic!("the turn has an end");
    };
    assert_eq!(done.finish_reason, FinishReason::Interrupted);
    pass(seconds(20)).await;
    assert_eq!(third.tools.uses().len(), 2);
    drop(client);
    third.log("s").await;
}

/// A session that a server held, whose tool it had just called when it was lost.
async fn leave_at_work(world: &World) {
    let claim = Claim {
        session_id: session_id("s"),
        user_id: alice(),
        agent: "test".to_owned(),
        server: ServerId("lost".to_owned()),
        lease_duration: seconds(15),
        now: Timestamp::from_second(1_767_225_600).expect("2026 is in range"),
        first_events: Vec::new(),
        spent_since: None,
    };
    let claimed = world.store.memory().claim(&claim).await;
    let lease = claimed.expect("the store answers").expect("it is Alice's");
    let bodies = [
        EventBody::SessionStarted(SessionStarted {
            session_id: claim.session_id,
            user_id: claim.user_id,
            agent: claim.agent,
        }),
        EventBody::UserMessage(UserMessage {
            text: REQUEST.into(),
            id: None,
            queued_seq: None,
        }),
        EventBody::ToolCall(ToolCall {
            call_id: CallId::new(TurnId(1), 1),
            name: "fetch_order".to_owned(),
            arguments: json!({ "order_id": "ORD-1" }),
        }),
    ];
    let events: Vec<_> = bodies
        .into_iter()
        .zip(1..)
        .map(|(body, seq)| Event {
            seq: Seq(seq),
            occurred_at: claim.now,
            turn_id: (seq > 1).then_some(TurnId(1)),
            body,
        })
        .collect();
    let stored = world
        .store
        .memory()
        .append(&lease.lease, Seq::ZERO, &events);
    stored.await.expect("the store answers");
}

/// Nobody comes back. The turn is taken up by the server that ends the session, and has its answer
/// before the end.
#[tokio::test(start_paused = true)]
async fn a_turn_that_nobody_waits_for_has_its_answer_before_the_session_ends() {
    let world = World::with_order_tool(IDEMPOTENT);
    world.provider.will_say("It is on its way.");
    leave_at_work(&world).await;
    world.until_status("s", SessionStatus::Completed).await;
    let log = world.log("s").await;
    assert_eq!(
        types(&log)[2..6],
        [
            "tool_call",
            "tool_result",
            "assistant_message",
            "session_ended"
        ]
    );
    let EventBody::AssistantMessage(done) = &log[4].body else {
        panic!("the turn has an end");
    };
    assert_eq!(&*done.text, "It is on its way.");
}
