//! Jobs: the summary is made once, however often it must be tried, and never holds anything up.

use std::{sync::Arc, time::Duration};

use duologue_doubles::{memory::Fault, scripted::Step};
use duologue_engine::{
    Limits,
    limits::RetryDelay,
    provider::{Message, ProviderError, Purpose, Request},
    store::{ServerId, SessionStatus},
};
use duologue_protocol::{ClientFrame, SummaryStatus};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::harness::{
    World,
    log::types,
    pass,
    provider::PanicsOverPoison,
    seconds,
    store::{Method, Weather},
};

const LEASE: Duration = Duration::from_mins(1);

fn refuses() -> [Step; 1] {
    [Step::Fail(ProviderError::Refused(
        "the test refuses".into(),
    ))]
}

fn held_summary() -> [Step; 2] {
    [Step::Hold("summary"), Step::Say("Too late.".to_owned())]
}

/// A session in which one thing was said, and that has ended.
async fn session(world: &World, name: &str, text: &str) {
    world.provider.will_say("Fine.");
    let mut client = world.connect(name).await;
    client.say(text);
    client.answer().await;
    client.send(ClientFrame::End);
    client.closed().await;
}

fn summary_requests(world: &World) -> Vec<Request> {
    let mut requests = world.provider.requests();
    requests.retain(|request| request.purpose == Purpose::Summary);
    requests
}

/// What the model was shown of the session.
fn transcript(world: &World) -> String {
    match &summary_requests(world)[0].messages[..] {
        [Message::User(transcript)] => transcript.to_string(),
        other => panic!("the transcript is one message, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_ended_session_is_summed_up() {
    let world = World::start();
    world
        .provider
        .will_summarize([Step::Say("They met.".to_owned())]);
    session(&world, "s", "hi").await;
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("They met."));
    assert_eq!(record.summary_status, Some(SummaryStatus::Done));
    assert_eq!(transcript(&world), "user: hi\nassistant: Fine.\n");
    let request = &summary_requests(&world)[0];
    assert!(request.tools.is_empty(), "a transcript can call nothing");
    assert_eq!(
        types(&world.log("s").await).last(),
        Some(&"session_summarized")
    );
}

/// Nothing is claimed from the table, since the session's end has claimed the job for a worker that was free.
#[tokio::test(start_paused = true)]
async fn a_free_worker_gets_the_job_from_the_end_of_its_session() {
    let world = World::start();
    world
        .provider
        .will_summarize([Step::Say("They met.".to_owned())]);
    pass(seconds(1)).await;
    world.store.set(Weather::Hanging, [Method::ClaimJob]);
    session(&world, "s", "hi").await;
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("They met."));
}

/// A user who ends many sessions does not occupy all workers before the jobs that wait.
#[tokio::test(start_paused = true)]
async fn a_users_second_job_waits_in_the_table() {
    let world = World::start();
    pass(seconds(1)).await;
    world.provider.will_summarize(held_summary());
    session(&world, "first", "hi").await;
    world.provider.wait_for_requests(2).await;
    world.store.set(Weather::Hanging, [Method::ClaimJob]);
    world
        .provider
        .will_summarize([Step::Say("They met again.".to_owned())]);
    session(&world, "second", "hello").await;
    pass(seconds(1)).await;
    assert_eq!(world.record("second").await.status, SessionStatus::Ended);
    world.store.set(Weather::Fair, [Method::ClaimJob]);
    let record = world.until_status("second", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("They met again."));
}

/// However many workers are free: a database that is far away, with few connections, has heartbeats to answer.
#[tokio::test(start_paused = true)]
async fn a_table_without_jobs_is_asked_by_one_claim_at_a_time() {
    let world = World::with(|limits| limits.jobs.workers = 16);
    pass(seconds(51)).await;
    assert_eq!(world.store.count(Method::ClaimJob), 10);
}

/// An end whose answers are lost is repeated, and its job is done once, in one attempt.
#[tokio::test(start_paused = true)]
async fn an_end_whose_answer_is_lost_still_hands_its_job_over() {
    let world = World::start();
    pass(seconds(1)).await;
    let mut client = world.connect("s").await;
    client.settle().await;
    world.store.fail_next_writes(2, Fault::AfterEffect);
    client.send(ClientFrame::End);
    client.closed().await;
    world.store.set(Weather::Hanging, [Method::ClaimJob]);
    world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(world.store.count(Method::End), 3);
    assert_eq!(world.store.count(Method::FinishJob), 1);
}

/// The waits are those that the limits say, plus at most what an idle worker sleeps.
#[tokio::test(start_paused = true)]
async fn a_job_that_fails_is_tried_again_after_each_delay() {
    let world = World::start();
    world.provider.will_summarize(refuses());
    world.provider.will_summarize(refuses());
    let ended = Instant::now();
    session(&world, "s", "hi").await;
    world.store.wait_for(Method::ReleaseJob, 2).await;
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary_status, Some(SummaryStatus::Done));
    let retries = world.store.times(Method::ReleaseJob);
    let finished = world.store.times(Method::FinishJob)[0];
    let slack = seconds(5);
    assert!(retries[0] - ended < seconds(1));
    assert!((seconds(5)..=seconds(5) + slack).contains(&(retries[1] - retries[0])));
    assert!((seconds(120)..=seconds(120) + slack).contains(&(finished - retries[1])));
}

/// Whatever the model does to its job, the session is completed, and other jobs flow meanwhile.
#[tokio::test(start_paused = true)]
async fn a_job_that_always_fails_is_over_after_its_last_attempt() {
    let world = World::start();
    for _ in 0..3 {
        world.provider.will_summarize(refuses());
    }
    session(&world, "poison", "hi").await;
    world.store.wait_for(Method::ReleaseJob, 1).await;
    world.store.set(Weather::Fair, [Method::ReleaseJob]);
    let record = world.until_status("poison", SessionStatus::Completed).await;
    assert_eq!(record.summary_status, Some(SummaryStatus::Failed));
    assert_eq!(record.summary, None);
    assert_eq!(summary_requests(&world).len(), 3);
    world.log("poison").await;
    session(&world, "other", "hi").await;
    world.until_status("other", SessionStatus::Completed).await;
    pass(seconds(3600)).await;
    assert_eq!(summary_requests(&world).len(), 4, "nothing is tried again");
}

/// There are more jobs that panic than workers. Each is given up, and no worker is lost.
#[tokio::test(start_paused = true)]
async fn a_job_that_panics_is_over_after_its_last_attempt_and_takes_no_worker_along() {
    let change = |limits: &mut Limits| limits.jobs.retry_delays = vec![RetryDelay(seconds(1))];
    let world = World::with_provider(Arc::new(PanicsOverPoison), change);
    let names = ["one", "two", "three", "four", "five"];
    for name in names {
        session(&world, name, "poison").await;
    }
    session(&world, "other", "hi").await;
    let record = world.until_status("other", SessionStatus::Completed).await;
    assert_eq!(record.summary_status, Some(SummaryStatus::Done));
    for name in names {
        let record = world.until_status(name, SessionStatus::Completed).await;
        assert_eq!(record.summary_status, Some(SummaryStatus::Failed));
    }
    tokio::time::timeout(
        seconds(1),
        world
            .engine
            .shut_down(seconds(1), &CancellationToken::new()),
    )
    .await
    .expect("the workers stop");
}

/// Two jobs hang at the model, which is all the workers there are. They are cut off by the model's
/// own limits of time.
#[tokio::test(start_paused = true)]
async fn a_job_that_hangs_is_over_after_its_last_attempt_and_holds_nothing_up_for_ever() {
    let world = World::with(|limits| limits.generation.retries_max = 0);
    for _ in 0..6 {
        world.provider.will_summarize([Step::Stall]);
    }
    session(&world, "one", "hi").await;
    session(&world, "two", "hi").await;
    session(&world, "other", "hi").await;
    let record = world.until_status("other", SessionStatus::Completed).await;
    assert!(record.summary_status.is_some());
    for name in ["one", "two"] {
        world.until_status(name, SessionStatus::Completed).await;
    }
    world.provider.wait_for_dropped(6).await;
}

/// The worker's lease expires while it waits for the model, and another worker has the job. What the
/// first one makes of it is not applied.
#[tokio::test(start_paused = true)]
async fn a_worker_that_lost_its_lease_changes_nothing() {
    let world = World::with(|limits| {
        limits.generation.first_token_timeout = Duration::from_mins(5);
        limits.generation.total_timeout = Duration::from_mins(5);
        limits.jobs.workers = 1;
    });
    world.provider.will_summarize(held_summary());
    world.store.set(Weather::Away, [Method::RenewJob]);
    session(&world, "s", "hi").await;
    pass(LEASE + seconds(1)).await;
    let other = ServerId("other".to_owned());
    let job = world.store.memory().claim_job(&other, LEASE).await;
    assert_eq!(job.unwrap().expect("the lease has lapsed").attempt, 2);
    world.provider.release("summary");
    world.store.wait_for(Method::FinishJob, 1).await;
    pass(seconds(1)).await;
    let record = world.record("s").await;
    assert_eq!(record.status, SessionStatus::Ended);
    assert_eq!(record.summary, None);
    assert_eq!(
        world.store.count(Method::ReleaseJob),
        0,
        "it is none of its business"
    );
}

/// Told that the job is another's, the worker does not even wait for the model.
#[tokio::test(start_paused = true)]
async fn a_worker_that_hears_of_its_loss_stops() {
    let world = World::with(|limits| {
        limits.jobs.workers = 1;
        limits.generation.first_token_timeout = Duration::from_mins(5);
        limits.generation.total_timeout = Duration::from_mins(5);
    });
    world.provider.will_summarize(held_summary());
    world.store.set(Weather::Away, [Method::RenewJob]);
    session(&world, "s", "hi").await;
    pass(LEASE + seconds(1)).await;
    let other = ServerId("other".to_owned());
    let job = world.store.memory().claim_job(&other, LEASE * 10).await;
    assert!(job.unwrap().is_some());
    world.store.set(Weather::Fair, [Method::RenewJob]);
    pass(seconds(15)).await;
    world.provider.wait_for_dropped(1).await;
    assert_eq!(world.store.count(Method::FinishJob), 0);
}

/// A model that takes longer than the lease is no reason to lose it.
#[tokio::test(start_paused = true)]
async fn a_worker_keeps_its_lease_as_long_as_it_works() {
    let world = World::with(|limits| {
        limits.generation.first_token_timeout = Duration::from_mins(5);
        limits.generation.total_timeout = Duration::from_mins(5);
    });
    world.provider.will_summarize(held_summary());
    session(&world, "s", "hi").await;
    pass(LEASE * 4).await;
    let other = ServerId("other".to_owned());
    let job = world.store.memory().claim_job(&other, LEASE).await;
    assert_eq!(job.unwrap(), None);
    world.provider.release("summary");
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("Too late."));
}

/// A deploy must not cost the lease's time.
#[tokio::test(start_paused = true)]
async fn a_server_that_stops_gives_its_jobs_back_at_once_and_uses_up_no_attempt() {
    let world = World::start();
    world.provider.will_summarize(held_summary());
    session(&world, "s", "hi").await;
    world.provider.wait_for_requests(2).await;
    world
        .engine
        .shut_down(seconds(30), &CancellationToken::new())
        .await;
    world.provider.wait_for_dropped(1).await;
    let other = ServerId("other".to_owned());
    let job = world.store.memory().claim_job(&other, LEASE).await;
    let job = job.unwrap().expect("it was given back");
    // The stop is not the job's failure, so it costs no attempt.
    assert_eq!((job.attempt, job.counted_attempt()), (2, 1));
}

/// The user comes back while the summary is being made. Its result is about a session that has gone
/// on; the next end makes a new one.
#[tokio::test(start_paused = true)]
async fn the_summary_of_a_session_that_was_reopened_is_not_applied() {
    let world = World::start();
    world.provider.will_summarize(held_summary());
    world
        .provider
        .will_summarize([Step::Say("The whole.".to_owned())]);
    session(&world, "s", "hi").await;
    world.provider.wait_for_requests(2).await;
    let client = world.connect("s").await;
    world.provider.release("summary");
    world.store.wait_for(Method::FinishJob, 1).await;
    pass(seconds(1)).await;
    let record = world.record("s").await;
    assert_eq!(record.status, SessionStatus::Active);
    assert_eq!(record.summary, None);
    client.send(ClientFrame::End);
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("The whole."));
    let log = world.log("s").await;
    let summaries = types(&log)
        .iter()
        .filter(|name| **name == "session_summarized")
        .count();
    assert_eq!(summaries, 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_in_which_nothing_was_said_asks_no_model() {
    let world = World::start();
    let client = world.connect("s").await;
    client.send(ClientFrame::End);
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("- Nothing was said."));
    assert!(world.provider.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_summary_beyond_its_limit_is_cut_and_the_upstream_closed() {
    let world = World::with(|limits| limits.jobs.summary_bytes_max = 9);
    world.provider.will_summarize([
        Step::Say("ééé".to_owned()),
        Step::Say("ééé".to_owned()),
        Step::Stall,
    ]);
    session(&world, "s", "hi").await;
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary.as_deref(), Some("éééé"));
    world.provider.wait_for_dropped(1).await;
}

/// Of a long session the model is shown the end.
#[tokio::test(start_paused = true)]
async fn a_transcript_beyond_its_limit_loses_its_beginning() {
    let world = World::with(|limits| limits.jobs.transcript_bytes_max = 60);
    let mut client = world.connect("s").await;
    for number in 0..10 {
        world.provider.will_say("Go on.");
        client.say(&format!("number {number}"));
        client.answer().await;
    }
    client.send(ClientFrame::End);
    world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(
        transcript(&world),
        "(18 earlier lines left out)\nuser: number 9\nassistant: Go on.\n"
            .replace("(18", "(17")
            .replace("user: number 9", "assistant: Go on.\nuser: number 9")
    );
}

/// A single message may be longer than all that the model is shown. Its end is shown then.
#[tokio::test(start_paused = true)]
async fn a_line_beyond_the_transcripts_limit_is_cut_and_not_left_out() {
    let world = World::with(|limits| limits.jobs.transcript_bytes_max = 60);
    let mut client = world.connect("s").await;
    client.say(&format!("{} the end", "x".repeat(1000)));
    world.provider.will([Step::Finish(
        duologue_engine::provider::StopReason::Stop,
        None,
    )]);
    client.answer().await;
    client.send(ClientFrame::End);
    world.until_status("s", SessionStatus::Completed).await;
    let transcript = transcript(&world);
    assert!(transcript.ends_with("xxx the end\n"), "{transcript}");
    assert!(transcript.len() < 120, "{transcript}");
}

/// The store goes away when the result is to be stored. The result is made again when it is back,
/// and stored once.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_when_a_job_is_done_delays_it() {
    let world = World::start();
    world
        .store
        .set(Weather::Away, [Method::FinishJob, Method::ReleaseJob]);
    session(&world, "s", "hi").await;
    world.store.wait_for(Method::FinishJob, 1).await;
    pass(seconds(10)).await;
    world.store.set_all(Weather::Fair);
    let record = world.until_status("s", SessionStatus::Completed).await;
    assert_eq!(record.summary_status, Some(SummaryStatus::Done));
    world.log("s").await;
}
