//! The honest client: it talks for as long as the flood lasts, and is answered as ever.

use duologue_integration::{Client, process::ServerProcess};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A conversation beside a flood.
pub(super) struct Honest {
    over: CancellationToken,
    talking: JoinHandle<usize>,
}

impl Honest {
    /// Begins to talk. [`Client`] itself checks that nothing is missing, doubled or out of order.
    #[expect(clippy::disallowed_methods, reason = "`finish` waits for the task")]
    pub(super) async fn start(server: &ServerProcess) -> Self {
        let url = server.socket_url("honest", "?user_id=honest");
        let mut client = Client::open(&url).await;
        let over = CancellationToken::new();
        let told = over.clone();
        let talking = tokio::task::spawn(async move {
            let mut turns = 0;
            while !told.is_cancelled() {
                turns += 1;
                let said = format!("Turn {turns}, please. mock:words=20");
                let answer = client.ask(&said).await;
                assert_eq!(answer.of_type("user_message")[0]["text"], said.as_str());
                assert_eq!(answer.done["finish_reason"], "stop");
            }
            turns
        });
        Self { over, talking }
    }

    /// Ends the conversation; fails if it was disturbed or never got anywhere.
    pub(super) async fn finish(self) {
        self.over.cancel();
        let turns = self
            .talking
            .await
            .expect("nothing disturbed the conversation");
        assert!(
            turns >= 3,
            "only {turns} turns were answered beside the flood"
        );
    }
}
