//! What a hostile client does before it says what it has to say.

use duologue_protocol::SessionId;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message as Frame;
use turmoil::net::TcpStream;

use super::Tab;
use crate::{
    network::PORT,
    plan::{Talk, server_name},
};

/// More than a message may have.
const TOO_MANY_BYTES: usize = 70_000;

impl Tab {
    pub(super) async fn misbehave(&mut self) {
        for _ in 0..self.rng.u32(0..4) {
            match self.rng.u32(0..6) {
                0 => self.knock().await,
                1 => self.babble().await,
                _ => self.send_nonsense().await,
            }
        }
    }

    /// Asks for another user's session, which must not exist for it.
    async fn knock(&mut self) {
        let foreign = self.foreign();
        let Some(Talk { session_id, .. }) = foreign else {
            return;
        };
        if !self.exists(&session_id) {
            // It would become its owner.
            return;
        }
        let server = self.rng.usize(0..self.shared.servers);
        let user_id = &self.talk.user_id;
        let path = format!("/ws/session/{session_id}?user_id={user_id}&after=0");
        match self.try_connect(server, &path).await {
            Ok(_socket) => {
                let what = format!("was let into {session_id}, which is another user's");
                self.shared.history.violation(&self.name, &what);
            }
            Err(why) => self.note(&format!("knocks at {session_id}: {why}")),
        }
    }

    fn foreign(&mut self) -> Option<Talk> {
        let own = &self.talk.user_id;
        let foreign = self.shared.talks.iter().filter(|talk| talk.user_id != *own);
        let foreign: Vec<_> = foreign.collect();
        let choice = self.rng.choice(&foreign)?;
        Some((*choice).clone())
    }

    /// Whether the session's own client has got hold of it.
    fn exists(&self, session_id: &SessionId) -> bool {
        let known = self.shared.knowledge();
        known
            .get(session_id)
            .is_some_and(|known| !known.heard.is_empty())
    }

    /// Sends what is not HTTP, and leaves the connection open for a while.
    async fn babble(&mut self) {
        let server = self.rng.usize(0..self.shared.servers);
        let host = server_name(server);
        let half_a_head = b"GET /ws/session/x HTTP/1.1\r\nhost: ";
        let garbage = [0x16, 0x03, 0x01, 0x00, 0xff];
        let what: &[u8] = if self.rng.bool() {
            half_a_head
        } else {
            &garbage
        };
        if let Ok(mut stream) = TcpStream::connect((host.as_str(), PORT)).await {
            self.note("babbles");
            if stream.write_all(what).await.is_ok() {
                let pause = self.millis(0..8000);
                self.idle(pause).await;
            }
        }
    }

    /// Sends a frame that cannot be a message. The connection survives all but the largest.
    async fn send_nonsense(&mut self) {
        if self.socket.is_none() && !self.connect().await {
            return;
        }
        let frame = match self.rng.u32(0..9) {
            0 => Frame::binary(vec![0, 159, 146, 150]),
            1 => Frame::text("{\"type\":\"message\"}"),
            2 => Frame::text("{\"type\":\"launch\"}"),
            3 => Frame::text("{\"type\":\"message\",\"message\":\"x\",\"id\":7}"),
            4 => Frame::text("   "),
            5 => Frame::text("{\"type\":\"auth\",\"token\":\"x\"}"),
            6 => Frame::text("{\"type\":\"cancel\"}"),
            7 => Frame::text("x".repeat(TOO_MANY_BYTES)),
            _ => Frame::Ping(vec![7; 100].into()),
        };
        self.note("sends nonsense");
        self.send(frame).await;
    }
}
