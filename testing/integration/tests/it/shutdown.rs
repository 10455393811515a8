//! SIGTERM under load: every turn gets its end, no session does.

use duologue_integration::{Client, process::ServerProcess};
use futures_util::future::join_all;

const SESSIONS: usize = 200;

/// The answers of half of the sessions take a second, those of the others never end. All get the
/// signal in the middle, and the drain is long enough for the first half. After the next start
/// every client comes back and finds its turn closed and its session as it was.
#[tokio::test]
async fn two_hundred_answers_are_completed_or_interrupted_and_no_session_ends() {
    let settings = [
        ("DUOLOGUE_SERVER__DRAIN_TIMEOUT", "5s"),
        ("DUOLOGUE_SESSION__RESUME_GRACE", "1s"),
        // All come at once, each reads its log, and a machine that runs tests has other things to do.
        ("DUOLOGUE_SESSION__ATTACH_TIMEOUT", "25s"),
        ("DUOLOGUE_STORE__ACQUIRE_TIMEOUT", "25s"),
    ];
    let server = ServerProcess::start_on_any_store(&settings).await;
    let mut clients = join_all((0..SESSIONS).map(async |number| {
        let query = "?user_id=alice";
        let mut client = Client::open(&server.socket_url(&format!("s{number}"), query)).await;
        let message = match number % 2 {
            0 => "mock:words=10 mock:delay_ms=100 a little",
            _ => "mock:words=10 mock:stall_at=3 forever",
        };
        client.send(message).await;
        client.until("token").await;
        client
    }))
    .await;
    let told = join_all(clients.iter_mut().map(async |client| {
        let (code, _) = client.until_closed().await;
        assert_eq!(code, 1012);
        let goaway = &client.seen[client.seen.len() - 1];
        assert_eq!(goaway["type"], "goaway");
        goaway["reconnect_after_ms"].as_u64().expect("a number")
    }));
    let ((code, server), waits) = tokio::join!(server.terminate_and_restart(), told);
    assert_eq!(code, Some(0));
    let (least, most) = (waits.iter().min(), waits.iter().max());
    assert!(
        most.unwrap() - least.unwrap() > 1000,
        "{least:?} to {most:?}"
    );
    let none = |rows: &[String]| rows == ["0"];
    let ended = "select cast(count(*) as text) from session_events
                 where event_type = 'session_ended'";
    server.database_until(ended, none).await;

    join_all(
        clients
            .into_iter()
            .enumerate()
            .map(async |(number, before)| {
                let query = format!("?user_id=alice&after={}", before.last_seq);
                let mut client =
                    Client::open(&server.socket_url(&format!("s{number}"), &query)).await;
                client.last_seq = before.last_seq;
                client.until("replayed").await;
                let all = before.seen.iter().chain(&client.seen);
                let ends: Vec<_> = all.filter(|frame| frame["type"] == "done").collect();
                assert_eq!(ends.len(), 1, "s{number}: {ends:?}");
                let expected = ["stop", "interrupted"][number % 2];
                assert_eq!(ends[0]["finish_reason"], expected, "s{number}");
                let started = &client.seen[0];
                assert_eq!(started["resumed"], true);
                assert!(client.seen.iter().all(|frame| frame["reopened"] != true));
            }),
    )
    .await;
    server.kill().await;
}
