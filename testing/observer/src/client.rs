//! A client together with the view of what it delivers.

use std::{collections::BTreeMap, mem};

use duologue_client::{
    Activity, Address, Client, ClientOptions, Loss, Lost, Position, Session, Transport,
};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::view::{Breach, BreachKind, View};

/// A fault that is planted into a client, to see that its view finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFault {
    /// It does not resume: each new connection continues where the server is, whatever was missed.
    SkipsGaps,
    /// Of an answer's pieces it leaves one out.
    SkipsTokens,
}

/// The piece that is left out where that is planted.
const SKIPPED_INDEX: u64 = 2;

/// Something that a client delivered.
#[derive(Debug)]
pub enum Observation {
    /// A frame.
    Frame(Value),
    /// A ping or pong.
    Control,
    /// The connection is over.
    Lost(Lost),
}

/// A client whose every frame is checked once more. Its owner decides when and where it connects.
#[derive(Debug)]
pub struct ObservedClient<T: Transport> {
    client: Client<T>,
    view: View,
    fault: Option<ClientFault>,
    /// How often each message was sent that the client itself sends again.
    sendings: BTreeMap<String, u32>,
    breaches: Vec<Breach>,
}

impl<T: Transport> ObservedClient<T> {
    /// A client that replays the log from its start.
    pub fn new(
        transport: T,
        address: Address,
        mut options: ClientOptions,
        view: View,
        fault: Option<ClientFault>,
    ) -> Self {
        options.session.position = Some(Position::default());
        Self {
            client: Client::over(transport, address, options),
            view,
            fault,
            sendings: BTreeMap::new(),
            breaches: Vec::new(),
        }
    }

    /// What was received.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The promises that were broken since the last call.
    pub fn take_breaches(&mut self) -> Vec<Breach> {
        mem::take(&mut self.breaches)
    }

    /// The rules, to give it messages.
    pub fn session_mut(&mut self) -> &mut Session {
        self.client.session_mut()
    }

    /// From now on connects to another address of the same session.
    pub fn set_address(&mut self, address: Address) {
        self.client.set_address(address);
    }

    /// Whether a connection is open.
    pub fn is_connected(&self) -> bool {
        self.client.is_connected()
    }

    /// How often the client sent the message that it was given under this id.
    pub fn sendings(&self, id: &str) -> u32 {
        self.sendings.get(id).copied().unwrap_or(0)
    }

    /// Makes one attempt to connect, and resumes.
    pub async fn connect(&mut self) -> Result<(), Lost> {
        if self.fault == Some(ClientFault::SkipsGaps) && self.view.last_seq() > 0 {
            self.client.session_mut().set_position(None);
        }
        self.client.connect().await?;
        self.view.connected();
        Ok(())
    }

    /// The next thing that the client delivers. Cancel safe.
    pub async fn receive(&mut self) -> Observation {
        loop {
            self.transmit();
            let received = match self.client.next_incoming().await {
                Ok(Activity::Frame(received)) => received,
                Ok(Activity::Control) => return Observation::Control,
                Err(lost) => {
                    if let Loss::Violation(violation) = &lost.loss {
                        let what = format!("the client rejects a frame: {violation}");
                        let kind = BreachKind::Protocol;
                        self.breaches.push(Breach { kind, what });
                    }
                    return Observation::Lost(lost);
                }
            };
            let is_skipped = self.fault == Some(ClientFault::SkipsTokens)
                && received.kind() == "token"
                && received.json["index"] == SKIPPED_INDEX;
            if !is_skipped {
                let breaches = self.view.receive(&received.text, &received.json);
                self.breaches.extend(breaches);
                return Observation::Frame(received.json);
            }
        }
    }

    /// Sends any WebSocket message with the next call of [`receive`](Self::receive) or
    /// [`flush`](Self::flush), past the rules of the session.
    pub fn queue(&mut self, message: Message) {
        self.client.queue(message);
    }

    /// The next messages repeat earlier ones, so their receipts may come again.
    pub fn resent(&mut self) {
        self.view.resent();
    }

    /// Sends what is queued, without receiving.
    pub async fn flush(&mut self) -> Result<(), Lost> {
        self.transmit();
        self.client.flush().await
    }

    /// Drops the connection without a close frame.
    pub fn disconnect(&mut self) {
        self.client.disconnect();
    }

    /// Queues what the session has to send now, and counts it.
    fn transmit(&mut self) {
        while let Some(frame) = self.client.session_mut().next_transmission() {
            let json: Value = serde_json::from_str(&frame).unwrap_or_default();
            if let Some(id) = json["id"].as_str() {
                let sendings = self.sendings.entry(id.to_owned()).or_default();
                *sendings += 1;
                if *sendings > 1 {
                    self.view.resent();
                }
            }
            self.client.queue(Message::text(frame));
        }
    }
}
