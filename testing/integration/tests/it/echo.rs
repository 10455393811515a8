//! The echo that the WebSocket conformance suite talks to: there when a test asks for it, and only then.

use duologue_integration::{TestServer, process::ServerProcess, server::http};
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::{connect_async, tungstenite::Message};

const ROUTE: &str = "/testing/echo";

/// Nobody outside can make a shipped server a mirror. It is asked as the suite asks, by an upgrade.
#[tokio::test]
async fn the_program_has_no_echo() {
    let program = ServerProcess::start().await;
    let server = TestServer::start().await;
    for address in [program.address(), server.address()] {
        let refused = connect_async(format!("ws://{address}{ROUTE}")).await;
        let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else {
            panic!("{address} echoes")
        };
        assert_eq!(response.status(), 404);
        let url = format!("http://{address}{ROUTE}");
        assert_eq!(http().get(url).send().await.unwrap().status(), 404);
    }
    server.stop().await;
    program.kill().await;
}

/// What the suite meets are the limits of every socket.
#[tokio::test]
async fn the_echo_has_the_limits_of_all_sockets() {
    let server = TestServer::builder()
        .set("DUOLOGUE_SOCKET__FRAME_BYTES_MAX", "1000")
        .with_echo()
        .start()
        .await;
    let url = format!("ws://{}{ROUTE}", server.address());
    let (mut socket, _response) = connect_async(url).await.unwrap();
    for message in [
        Message::text("x".repeat(1000)),
        Message::binary(vec![7; 1000]),
    ] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.send(Message::text("x".repeat(1001))).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else {
        panic!("a message over the limit was taken")
    };
    assert_eq!(u16::from(frame.code), 1009);
    server.stop().await;
}
