//! Asks one question and prints the answer: `cargo run -p duologue-client --example hello -- [URL] [TEXT]`.

use std::io::{self, Write};

use duologue_client::{Address, Client, ClientOptions, Update};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments
        .next()
        .unwrap_or_else(|| "ws://127.0.0.1:8000".to_owned());
    let text = arguments
        .next()
        .unwrap_or_else(|| "What can you do?".to_owned());
    let session_id = format!("hello-{}", std::process::id());
    let mut client = Client::new(
        Address::new(&url, None, None, &session_id)?,
        ClientOptions::default(),
    );
    client.send(text);
    let mut out = io::stdout();
    while let Some(update) = client.next().await? {
        match update {
            Update::Frame(frame) => match frame.kind() {
                "token" if frame.is_new => {
                    write!(out, "{}", frame.json["token"].as_str().unwrap_or_default())?;
                    out.flush()?;
                }
                "done" => {
                    writeln!(out)?;
                    client.leave();
                }
                _ => {}
            },
            Update::Disconnected { loss, .. } => writeln!(out, "\n({loss}; connecting again)")?,
            Update::HistoryLost => writeln!(out, "\n(the session was restored from a backup)")?,
            Update::TooBig(error) => return Err(error.into()),
            Update::Abandoned(_) => return Err("the message could not be delivered".into()),
        }
    }
    Ok(())
}
