//! What a hostile client does before it sends its message.

use std::time::Duration;

use duologue_client::{Connection, Position, Refusal, Transport};
use duologue_protocol::SessionId;
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_tungstenite::tungstenite::{self, Message as Frame, client::IntoClientRequest};
use turmoil::net::TcpStream;

use super::Participant;
use crate::{
    client::tab::address,
    network::{PORT, SimulatedTransport},
    plan::{Talk, server_name},
};

/// More than a message may have.
const TOO_MANY_BYTES: usize = 70_000;

/// How long a handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

impl Participant {
    pub(super) async fn misbehave(&mut self) {
        for _ in 0..self.rng.u32(0..4) {
            match self.rng.u32(0..6) {
                0 => self.intrude().await,
                1 => self.babble().await,
                _ => self.send_nonsense().await,
            }
        }
    }

    /// Asks for another user's session, which must not exist for it.
    async fn intrude(&mut self) {
        let Some(foreign) = self.foreign() else {
            return;
        };
        let session_id = &foreign.session_id;
        if !self.exists(session_id) {
            // It would become its owner.
            return;
        }
        let server = self.rng.usize(0..self.tab.shared.servers);
        let url = address(server, &foreign, &self.tab.talk).url(Some(&Position::default()));
        let connecting = timeout(CONNECT_TIMEOUT, connect(server, url));
        match connecting.await {
            Ok(Ok(())) => {
                let what = format!("was let into {session_id}, which is another user's");
                self.tab.violation(&what);
            }
            Ok(Err(why)) => self.tab.record(&format!("asks for {session_id}: {why}")),
            Err(_elapsed) => self
                .tab
                .record(&format!("asks for {session_id}: no answer")),
        }
    }

    fn foreign(&mut self) -> Option<Talk> {
        let own = &self.tab.talk.user_id;
        let talks = self.tab.shared.talks.iter();
        let foreign: Vec<_> = talks.filter(|talk| talk.user_id != *own).collect();
        let choice = self.rng.choice(&foreign)?;
        Some((*choice).clone())
    }

    /// Whether the session's own client has created it.
    fn exists(&self, session_id: &SessionId) -> bool {
        let known = self.tab.shared.knowledge();
        known
            .get(session_id)
            .is_some_and(|known| !known.attached.is_empty())
    }

    /// Sends what is not HTTP, and leaves the connection open for a while.
    async fn babble(&mut self) {
        let server = self.rng.usize(0..self.tab.shared.servers);
        let host = server_name(server);
        let half_a_head = b"GET /ws/session/x HTTP/1.1\r\nhost: ";
        let garbage = [0x16, 0x03, 0x01, 0x00, 0xff];
        let what: &[u8] = if self.rng.bool() {
            half_a_head
        } else {
            &garbage
        };
        if let Ok(mut stream) = TcpStream::connect((host.as_str(), PORT)).await {
            self.tab.record("babbles");
            if stream.write_all(what).await.is_ok() {
                let pause = self.millis(0..8000);
                self.idle(pause).await;
            }
        }
    }

    /// Sends a frame that cannot be a message. The connection survives all but the largest.
    async fn send_nonsense(&mut self) {
        if !self.tab.is_connected() && !self.tab.connect().await {
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
        self.tab.record("sends nonsense");
        self.tab.send(frame).await;
    }
}

/// One handshake; or why there is none.
async fn connect(server: usize, url: String) -> Result<(), String> {
    let request = url.into_client_request().expect("the URL is well formed");
    let host = format!("{}:{PORT}", server_name(server));
    let stream = SimulatedTransport.open(host).await;
    let stream = stream.map_err(|error| error.kind().to_string())?;
    match Connection::open(request, stream).await {
        Ok(_connection) => Ok(()),
        Err(tungstenite::Error::Http(response)) => Err(Refusal::read(&response).to_string()),
        Err(_other) => Err("the connection broke".to_owned()),
    }
}
