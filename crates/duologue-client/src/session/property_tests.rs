//! A session against a model server over connections that break anywhere.

use std::collections::VecDeque;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What happens in one step.
#[derive(Clone, Debug)]
enum Happening {
    /// The client gives a message.
    Message,
    /// Something else is stored in the session.
    Event,
    /// This many frames of the server arrive.
    FromServer(usize),
    /// This many frames of the client arrive.
    FromClient(usize),
    /// The connection breaks, and a new one is made.
    Break,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        Just(Happening::Message),
        Just(Happening::Event),
        (1..6_usize).prop_map(Happening::FromServer),
        (1..3_usize).prop_map(Happening::FromClient),
        Just(Happening::Break),
    ]
}

/// A server that stores each message once by its id, and the connection to it.
#[derive(Default)]
struct Server {
    log: Vec<Value>,
    outbound: VecDeque<String>,
    inbound: VecDeque<String>,
}

impl Server {
    fn connect(&mut self, after: Option<u64>) {
        self.outbound.clear();
        self.inbound.clear();
        if self.log.is_empty() {
            self.append(json!({"type": "session_started", "resumed": false, "last_seq": 1}));
        } else {
            let last_seq = self.log.len();
            self.send(&json!({"type": "session_started", "resumed": true, "last_seq": last_seq}));
        }
        let replayed = after.map(|after| usize::try_from(after).unwrap());
        for event in replayed.map_or(Vec::new(), |after| self.log[after..].to_vec()) {
            self.send(&event);
        }
        self.append(json!({"type": "client_connected"}));
        if after.is_some() {
            self.send(&json!({"type": "replayed", "seq": self.log.len()}));
        }
    }

    fn append(&mut self, mut event: Value) {
        event["seq"] = (self.log.len() + 1).into();
        self.log.push(event.clone());
        self.send(&event);
    }

    fn send(&mut self, frame: &Value) {
        self.outbound.push_back(frame.to_string());
    }

    fn receive(&mut self, frame: &str) {
        let frame: Value = serde_json::from_str(frame).unwrap();
        let id = &frame["id"];
        match self.log.iter().find(|event| event["id"] == *id) {
            Some(stored) => self.send(&stored.clone()),
            None => {
                self.append(json!({"type": "user_message", "id": id, "text": frame["message"]}));
            }
        }
    }

    fn stored(&self, id: &str) -> usize {
        self.log.iter().filter(|event| event["id"] == id).count()
    }
}

struct World {
    server: Server,
    session: Session,
    delivered: Vec<Value>,
    messages: Vec<String>,
    now: Instant,
}

impl World {
    fn connect(&mut self) {
        self.session.connecting();
        let after = self.session.position().map(|position| position.last_seq);
        self.server.connect(after);
    }

    fn transmit(&mut self) {
        while let Some(frame) = self.session.next_transmission() {
            self.server.inbound.push_back(frame);
        }
    }

    fn deliver_to_client(&mut self, count: usize) {
        for frame in self
            .server
            .outbound
            .drain(..count.min(self.server.outbound.len()))
        {
            let received = self
                .session
                .receive(&frame, self.now)
                .expect("the server is right");
            if received.is_new && received.json["seq"].is_u64() && received.kind() != "replayed" {
                self.delivered.push(received.json);
            }
        }
    }

    fn deliver_to_server(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(frame) = self.server.inbound.pop_front() {
                self.server.receive(&frame);
            }
        }
    }

    fn step(&mut self, happening: &Happening) {
        match happening {
            Happening::Message => self.messages.push(self.session.message("hello")),
            Happening::Event => self.server.append(json!({"type": "other"})),
            Happening::FromServer(count) => self.deliver_to_client(*count),
            Happening::FromClient(count) => self.deliver_to_server(*count),
            Happening::Break => {
                self.session.lost(&Loss::Broken, self.now);
                self.connect();
            }
        }
        self.transmit();
    }
}

proptest! {
    /// Wherever connections break: every event after the first frame is delivered once and in order, and every
    /// message is stored once.
    #[test]
    fn nothing_is_lost_or_doubled_wherever_connections_break(
        happenings in prop::collection::vec(happening(), 0..120),
    ) {
        let options = SessionOptions { sendings_max: u32::MAX, ..SessionOptions::default() };
        let mut world = World {
            server: Server::default(),
            session: Session::new(options),
            delivered: Vec::new(),
            messages: Vec::new(),
            now: Instant::now(),
        };
        world.connect();
        for happening in &happenings {
            world.step(happening);
        }
        // The last connection holds.
        for happening in [Happening::Break, Happening::FromServer(999), Happening::FromClient(999),
            Happening::FromServer(999)] {
            world.step(&happening);
        }
        // A client that joined late begins where it joined.
        let first = world.delivered.first().map_or(1, |event| event["seq"].as_u64().unwrap());
        let first = usize::try_from(first).unwrap() - 1;
        prop_assert_eq!(&world.delivered, &world.server.log[first..]);
        for id in &world.messages {
            prop_assert_eq!(world.server.stored(id), 1);
        }
        prop_assert!(world.session.is_all_acknowledged());
    }
}
