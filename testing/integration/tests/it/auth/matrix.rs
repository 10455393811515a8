//! Who may do what: everybody × every door × every kind of session.

use duologue_integration::{
    TestServer,
    issuer::{Issuer, SigningKey},
};
use serde_json::{Value, json};

use super::{connect, connect_as, get, scene};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Who {
    Owner,
    Other,
    Stranger,
}

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Whose {
    /// Alice's, in which she has said something.
    Alices,
    Missing,
}

/// How they ask.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Door {
    /// `GET /v1/sessions/{id}`.
    Facts,
    /// The WebSocket with a token in its handshake.
    Socket,
    /// The same with the whole log asked for.
    Replay,
    /// The WebSocket with a token as its first frame.
    FirstFrame,
    Admin,
}

/// What comes of it: the status, or for a socket that was opened the code that closes it.
async fn outcome(scene: &Scene, door: Door, who: Who, session: &str) -> u16 {
    let server = &scene.server;
    let token = scene.token(who);
    let bearer = token.as_ref().map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer
        .iter()
        .map(|bearer| ("authorization", &**bearer))
        .collect();
    let path = format!("/v1/sessions/{session}");
    let client = match door {
        Door::Facts => return get(server, &path, token.as_deref()).await.0,
        Door::Admin => return get(server, "/v1/admin/status", token.as_deref()).await.0,
        Door::Socket => connect(server, session, "", &headers).await,
        Door::Replay => connect(server, session, "?after=0", &headers).await,
        Door::FirstFrame => connect(server, session, "", &[]).await,
    };
    let mut client = match client {
        Ok(client) => client,
        Err(status) => return status,
    };
    if door == Door::FirstFrame {
        let token = token.as_deref().unwrap_or("none");
        client
            .send_json(json!({ "type": "auth", "token": token }))
            .await;
    }
    // A client without a token in the handshake is asked for one; everything else it sends is refused.
    if who == Who::Stranger && door != Door::FirstFrame {
        client.send("What did Alice say?").await;
    }
    loop {
        match client.receive_text().await {
            Ok(frame) => {
                assert!(who == Who::Owner || !frame.contains("canary"), "{frame}");
                let frame: Value = serde_json::from_str(&frame).unwrap();
                if frame["type"] == "session_started" {
                    return 101;
                }
            }
            Err(close) => return close.expect("there is a code").code.into(),
        }
    }
}

struct Scene {
    key: SigningKey,
    issuer: Issuer,
    server: TestServer,
}

impl Scene {
    fn token(&self, who: Who) -> Option<String> {
        let user = match who {
            Who::Owner => "alice",
            Who::Other => "bob",
            Who::Stranger => return None,
        };
        Some(self.key.sign(&self.issuer.claims(user)))
    }
}

/// Goal: only Alice gets into her session, and to Bob it looks like one that does not exist wherever
/// asking creates none. Method: all of them, in a table.
#[tokio::test]
async fn everybody_gets_into_their_own_sessions_and_nobody_into_others() {
    let (key, issuer, server) = scene().await;
    let scene = Scene {
        key,
        issuer,
        server,
    };
    let alice = scene.token(Who::Owner).unwrap();
    let mut owner = connect_as(&scene.server, "alices", &alice).await.unwrap();
    owner.ask("my canary is yellow").await;

    let doors = [
        Door::Facts,
        Door::Socket,
        Door::Replay,
        Door::FirstFrame,
        Door::Admin,
    ];
    let everybody = [Who::Owner, Who::Other, Who::Stranger];
    let mut asked = 0;
    for door in doors {
        for who in everybody {
            for whose in [Whose::Alices, Whose::Missing] {
                let expected = match (door, who, whose) {
                    // There are no operators here.
                    (Door::Admin, _, _) => 404,
                    (Door::Facts, Who::Stranger, _) => 401,
                    (_, Who::Stranger, _) => 4401,
                    (Door::Facts, Who::Owner, Whose::Alices) => 200,
                    (Door::FirstFrame, Who::Other, Whose::Alices) => 4404,
                    (Door::Facts, _, _) | (_, Who::Other, Whose::Alices) => 404,
                    // Connecting to a session that does not exist creates it.
                    (_, _, Whose::Missing) | (_, Who::Owner, _) => 101,
                };
                asked += 1;
                let session = match whose {
                    Whose::Alices => "alices".to_owned(),
                    Whose::Missing => format!("missing-{asked}"),
                };
                let found = outcome(&scene, door, who, &session).await;
                assert_eq!(found, expected, "{door:?} {who:?} {whose:?}");
            }
        }
    }

    // To the letter: the answers differ in nothing.
    let bob = scene.token(Who::Other);
    let foreign = get(&scene.server, "/v1/sessions/alices", bob.as_deref()).await;
    let missing = get(&scene.server, "/v1/sessions/nowhere", bob.as_deref()).await;
    assert_eq!(foreign, missing);
    // And the owner was not disturbed by anything of this.
    let answer = owner.ask("is anybody there?").await;
    assert_eq!(answer.done["finish_reason"], "stop");
    scene.server.stop().await;
}

/// A live frame goes to the session that its socket was let into; no frame names another.
#[tokio::test]
async fn no_frame_reaches_another_session() {
    let (key, issuer, server) = scene().await;
    let sign = |user: &str| key.sign(&issuer.claims(user));
    let mut alice = connect_as(&server, "alices", &sign("alice")).await.unwrap();
    alice.ask("my canary is yellow").await;
    let mut bob = connect_as(&server, "bobs", &sign("bob")).await.unwrap();
    let said = alice.last_seq;
    for frame in [
        json!({ "type": "message", "message": "hello", "session_id": "alices", "user_id": "alice" }),
        json!({ "type": "cancel", "session_id": "alices" }),
        json!({ "type": "end", "session_id": "alices", "user_id": "alice" }),
    ] {
        bob.send_json(frame).await;
    }
    assert_eq!(bob.until_closed().await.0, 1000, "his own has ended");
    assert!(
        bob.seen
            .iter()
            .all(|frame| !frame.to_string().contains("canary"))
    );
    alice.ask("anything new?").await;
    assert!(alice.seen.iter().all(|frame| frame["text"] != "hello"));
    assert!(alice.last_seq > said);
    server.stop().await;
}

/// Where authentication is disabled, each user's sessions are still their own.
#[tokio::test]
async fn the_owner_is_checked_even_where_nobody_is_asked_who_they_are() {
    let server = TestServer::start().await;
    let mut alice = server.connect("s", "alice").await;
    alice.until("session_started").await;
    assert_eq!(
        connect(&server, "s", "?user_id=bob", &[]).await.err(),
        Some(404)
    );
    assert_eq!(connect(&server, "s", "", &[]).await.err(), Some(404));
    assert_eq!(
        get(&server, "/v1/sessions/s?user_id=alice", None).await.0,
        200
    );
    assert_eq!(
        get(&server, "/v1/sessions/s?user_id=bob", None).await.0,
        404
    );
    server.stop().await;
}
