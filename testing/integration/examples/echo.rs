//! A server with the route that the WebSocket conformance suite talks to. It prints the route's address
//! on its first line, and stops when its input ends, as it does with the program that started it.

#![expect(
    clippy::print_stdout,
    reason = "the program that starts it reads the address there"
)]

use duologue_integration::TestServer;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let server = TestServer::builder().with_echo().start().await;
    println!("ws://{}/testing/echo", server.address());
    tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await?;
    server.stop().await;
    Ok(())
}
