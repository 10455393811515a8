//! A client: a reader with a memory, that insists on what every client may rely on.

use std::{collections::VecDeque, sync::Arc};

use duologue_engine::{Delivery, Reader, SharedFrame};
use duologue_protocol::{
    AssistantMessage, ClientFrame, CloseCode, DisconnectReason, ErrorFrame, Event, EventBody,
    MessageId, OnBusy, ServerFrame, TurnId, UserInput,
};
use futures_util::FutureExt;

use super::patience::within;

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    reader: Reader,
    queue: VecDeque<Delivery>,
}

/// What a client has seen of one turn, up to its `done`.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Everything that came, in order.
    pub(crate) frames: Vec<ServerFrame>,
    /// The pieces of text.
    pub(crate) pieces: Vec<String>,
    pub(crate) turn_id: TurnId,
    pub(crate) done: AssistantMessage,
}

impl Client {
    pub(crate) fn new(reader: Reader) -> Self {
        Self {
            reader,
            queue: VecDeque::new(),
        }
    }

    /// The user says something.
    pub(crate) fn say(&self, text: &str) {
        self.submit(message(text, None))
            .expect("the inbox has room");
    }

    /// The user says something under an id of the client's.
    pub(crate) fn say_as(&self, id: &str, text: &str) {
        self.submit(message(text, Some(id)))
            .expect("the inbox has room");
    }

    /// The user says something, and what becomes of it if a turn is running.
    pub(crate) fn say_with(&self, id: &str, text: &str, on_busy: OnBusy) {
        let ClientFrame::Message(input) = message(text, Some(id)) else {
            unreachable!("a message is a message");
        };
        let on_busy = Some(on_busy);
        self.send(ClientFrame::Message(UserInput { on_busy, ..input }));
    }

    pub(crate) fn send(&self, frame: ClientFrame) {
        self.submit(frame).expect("the inbox has room");
    }

    pub(crate) fn submit(&self, frame: ClientFrame) -> Result<(), ErrorFrame> {
        self.reader.submit(frame)
    }

    pub(crate) fn leave(self, reason: DisconnectReason) {
        self.reader.leave(reason);
    }

    pub(crate) async fn receive(&mut self) -> Delivery {
        while self.queue.is_empty() {
            let mut batch = Vec::new();
            within("a delivery", self.reader.receive(&mut batch)).await;
            assert!(!batch.is_empty(), "a reader receives at least one delivery");
            self.queue.extend(batch.into_iter().flat_map(one_by_one));
        }
        self.queue.pop_front().expect("it is not empty")
    }

    pub(crate) async fn shared(&mut self) -> Arc<SharedFrame> {
        match self.receive().await {
            Delivery::Frame(frame) => frame,
            Delivery::Tokens(_) => unreachable!("the queue has single frames"),
            Delivery::Close(code) => panic!("closed with {code:?} instead of a frame"),
        }
    }

    pub(crate) async fn frame(&mut self) -> ServerFrame {
        self.shared().await.frame().clone()
    }

    /// What has come by now, without waiting for more.
    pub(crate) fn ready(&mut self) -> Vec<ServerFrame> {
        let mut frames = Vec::new();
        loop {
            let Some(delivery) = self.receive().now_or_never() else {
                return frames;
            };
            match delivery {
                Delivery::Frame(frame) => frames.push(frame.frame().clone()),
                Delivery::Tokens(_) => unreachable!("the queue has single frames"),
                Delivery::Close(code) => panic!("closed with {code:?}"),
            }
        }
    }

    /// Everything up to the first frame that is wanted, this one included.
    pub(crate) async fn until(
        &mut self,
        wanted: impl Fn(&ServerFrame) -> bool,
    ) -> Vec<ServerFrame> {
        let mut frames = Vec::new();
        loop {
            let frame = self.frame().await;
            let found = wanted(&frame);
            frames.push(frame);
            if found {
                return frames;
            }
        }
    }

    /// Everything that the session has said before it answers a ping.
    pub(crate) async fn settle(&mut self) -> Vec<ServerFrame> {
        self.send(ClientFrame::Ping);
        let mut frames = self.until(|frame| *frame == ServerFrame::Pong).await;
        frames.pop();
        frames
    }

    /// The next turn, up to its end.
    pub(crate) async fn answer(&mut self) -> Answer {
        let frames = self.until(is_done).await;
        Answer::of(frames)
    }

    /// Everything up to the close, and its code.
    pub(crate) async fn closed(&mut self) -> (Vec<ServerFrame>, CloseCode) {
        let mut frames = Vec::new();
        loop {
            match self.receive().await {
                Delivery::Frame(frame) => frames.push(frame.frame().clone()),
                Delivery::Tokens(_) => unreachable!("the queue has single frames"),
                Delivery::Close(code) => return (frames, code),
            }
        }
    }
}

/// Frames that came together, one by one.
fn one_by_one(delivery: Delivery) -> Vec<Delivery> {
    match delivery {
        Delivery::Tokens(tokens) => tokens.frames().map(Delivery::Frame).collect(),
        other => vec![other],
    }
}

impl Answer {
    pub(crate) fn of(frames: Vec<ServerFrame>) -> Self {
        let Some(ServerFrame::Event(Event {
            turn_id,
            body: EventBody::AssistantMessage(done),
            ..
        })) = frames.last().cloned()
        else {
            panic!("an answer ends with `done`");
        };
        let turn_id = turn_id.expect("`done` belongs to a turn");
        let pieces: Vec<String> = pieces(&frames, turn_id);
        assert_eq!(
            pieces.concat(),
            *done.text,
            "the pieces are the whole answer"
        );
        Self {
            frames,
            pieces,
            turn_id,
            done,
        }
    }
}

/// The pieces of a turn's text, after checking that none is missing and none comes twice. A draft
/// replaces what came before it.
pub(crate) fn pieces(frames: &[ServerFrame], of: TurnId) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut expected = 0;
    for frame in frames {
        match frame {
            ServerFrame::Token {
                turn_id,
                text,
                index,
            } if *turn_id == of => {
                assert_eq!(*index, expected, "a piece is missing, or comes twice");
                assert!(!text.is_empty());
                expected += 1;
                pieces.push(text.clone());
            }
            ServerFrame::Draft {
                turn_id,
                text,
                next_index,
            } if *turn_id == of => {
                pieces = vec![text.to_string()];
                expected = *next_index;
            }
            _ => {}
        }
    }
    pieces
}

pub(crate) fn message(text: &str, id: Option<&str>) -> ClientFrame {
    ClientFrame::Message(UserInput {
        text: text.into(),
        id: id.map(|id| MessageId::new(id).expect("a message id")),
        on_busy: None,
    })
}

pub(crate) fn is_done(frame: &ServerFrame) -> bool {
    body(frame).is_some_and(|body| matches!(body, EventBody::AssistantMessage(_)))
}

pub(crate) fn body(frame: &ServerFrame) -> Option<&EventBody> {
    match frame {
        ServerFrame::Event(event) => Some(&event.body),
        _ => None,
    }
}

/// The frames in short: events by their names in the log, all others by their names on the wire.
pub(crate) fn names(frames: &[ServerFrame]) -> Vec<&'static str> {
    frames.iter().map(name).collect()
}

/// The short name of a frame.
pub(crate) fn name(frame: &ServerFrame) -> &'static str {
    match frame {
        ServerFrame::Event(event) => event.body.event_type(),
        ServerFrame::Opened(opened) if opened.resumed => "resumed",
        other => other.name(),
    }
}

/// The errors among the frames.
pub(crate) fn errors(frames: &[ServerFrame]) -> Vec<&ErrorFrame> {
    let errors = frames.iter().filter_map(|frame| match frame {
        ServerFrame::Error(error) => Some(error),
        _ => None,
    });
    errors.collect()
}
