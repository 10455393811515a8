//! Which message is out, which wait, and when to leave. Pure; nothing is sent.
//!
//! One message is out at a time, so that a long piped file does not run into the server's limit of
//! waiting messages. Each has an id of its own, so that it can be sent again after a reconnection
//! when its receipt was lost: the server stores it once.

use std::collections::VecDeque;

use serde_json::json;

use crate::chat::{
    frame::{Body, Frame},
    view::Input,
};

/// Lines that wait for the running answer. Further ones stay in the terminal or the pipe.
const LINES_WAITING_MAX: usize = 16;

/// What the user wants with an interruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    /// Stop the answer.
    Cancel,
    /// Leave.
    Leave,
}

/// The state of a conversation, across connections.
#[derive(Debug)]
pub(super) struct Dialogue {
    input: Input,
    /// What this run's message ids begin with.
    id_prefix: String,
    messages_sent: u64,
    waiting: VecDeque<String>,
    out: Option<Out>,
    /// Whether a frame may be sent: the connection is up, and has told what was missed.
    is_ready: bool,
    cancel: Cancel,
    end: End,
    /// The last event that was seen.
    last_seq: Option<u64>,
}

/// A message that was sent and has no answer yet.
#[derive(Debug)]
struct Out {
    id: String,
    text: String,
    stage: Stage,
}

#[derive(Debug, PartialEq)]
enum Stage {
    /// To be sent, for the first time or again.
    Unsent,
    /// Sent over this connection.
    Sent,
    /// The server has it, and its turn waits for a running one.
    Queued,
    /// The server has it; its turn's id.
    Received(Option<String>),
}

/// How far a wish to stop the answer has come.
#[derive(Debug, PartialEq)]
enum Cancel {
    No,
    Wanted,
    Sent,
}

/// How far leaving has come.
#[derive(Debug, PartialEq)]
enum End {
    No,
    AfterAnswers,
    Now,
}

impl Dialogue {
    pub(super) fn new(input: Input, id_prefix: String) -> Self {
        Self {
            input,
            id_prefix,
            messages_sent: 0,
            waiting: VecDeque::new(),
            out: None,
            is_ready: false,
            cancel: Cancel::No,
            end: End::No,
            last_seq: None,
        }
    }

    /// The position to resume after.
    pub(super) fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// Whether another line should be read.
    pub(super) fn wants_lines(&self) -> bool {
        self.end == End::No && self.waiting.len() < LINES_WAITING_MAX
    }

    /// The user has entered a line.
    pub(super) fn line(&mut self, line: &str) {
        match line.trim() {
            "" => {}
            "/quit" => self.input_ended(),
            _ => self.waiting.push_back(line.to_owned()),
        }
    }

    /// There are no more lines. Who types wants to leave; a file wants its answers first.
    pub(super) fn input_ended(&mut self) {
        self.end = match self.input {
            Input::Typed => End::Now,
            Input::Piped => End::AfterAnswers,
        };
    }

    /// The user has pressed Ctrl-C. `is_answering` is whether an answer is seen to form.
    pub(super) fn interrupted(&mut self, is_answering: bool) -> Interruption {
        let is_running = self.is_ready && (is_answering || self.out.is_some());
        if is_running && self.cancel == Cancel::No {
            self.cancel = Cancel::Wanted;
            // What was typed meanwhile was typed for an answer that will not come.
            self.waiting.clear();
            Interruption::Cancel
        } else {
            self.end = End::Now;
            Interruption::Leave
        }
    }

    /// Whether there is nothing left to stay for.
    pub(super) fn is_over(&self) -> bool {
        match self.end {
            End::No => false,
            End::AfterAnswers => self.waiting.is_empty() && self.out.is_none(),
            End::Now => true,
        }
    }

    /// Whether something was said that has no answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.out.is_some() || !self.waiting.is_empty()
    }

    /// The connection is gone.
    pub(super) fn lost(&mut self) {
        self.is_ready = false;
        self.cancel = Cancel::No;
        if let Some(out) = &mut self.out
            && out.stage == Stage::Sent
        {
            out.stage = Stage::Unsent;
        }
    }

    /// Takes note of a frame. `false` where it is an event that was seen before.
    pub(super) fn heard(&mut self, frame: &Frame) -> bool {
        if let Some(seq) = frame.seq {
            if self.last_seq.is_some_and(|last| seq <= last) {
                return false;
            }
            self.last_seq = Some(seq);
        }
        match &frame.body {
            // When resuming, what was missed comes first, and then `replayed`.
            Body::SessionStarted { last_seq, .. }
                if frame.seq.is_some() || self.last_seq.is_none() =>
            {
                self.last_seq = self.last_seq.max(Some(*last_seq));
                self.is_ready = true;
            }
            Body::Replayed => self.is_ready = true,
            Body::MessageQueued { id } => self.advance(id.as_deref(), Stage::Queued),
            Body::UserMessage { id, .. } => {
                let stage = Stage::Received(frame.turn_id.clone());
                self.advance(id.as_deref(), stage);
            }
            Body::Done { .. } => {
                self.cancel = Cancel::No;
                if let Some(out) = &self.out
                    && let Stage::Received(turn_id) = &out.stage
                    && (turn_id.is_none() || *turn_id == frame.turn_id)
                {
                    self.out = None;
                }
            }
            // Refused: there is no turn, and no answer will come.
            Body::Error { id: Some(id), .. } if frame.turn_id.is_none() => {
                self.out.take_if(|out| out.id == *id);
            }
            _ => {}
        }
        true
    }

    /// The message that is out has come so far, if it is the one with this id.
    fn advance(&mut self, id: Option<&str>, stage: Stage) {
        if let Some(out) = &mut self.out
            && Some(out.id.as_str()) == id
        {
            out.stage = stage;
        }
    }

    /// Whether a message with this id was sent from here.
    pub(super) fn is_ours(&self, id: Option<&str>) -> bool {
        id.is_some_and(|id| id.starts_with(&self.id_prefix))
    }

    /// The next frame to send, if one may be sent now.
    pub(super) fn next_frame(&mut self) -> Option<String> {
        if !self.is_ready {
            return None;
        }
        if self.cancel == Cancel::Wanted {
            self.cancel = Cancel::Sent;
            return Some(json!({"type": "cancel"}).to_string());
        }
        if self.out.is_none() {
            let text = self.waiting.pop_front()?;
            self.messages_sent += 1;
            self.out = Some(Out {
                id: format!("{}-{}", self.id_prefix, self.messages_sent),
                text,
                stage: Stage::Unsent,
            });
        }
        let out = self.out.as_mut().filter(|out| out.stage == Stage::Unsent)?;
        out.stage = Stage::Sent;
        Some(json!({"type": "message", "message": out.text, "id": out.id}).to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn dialogue(input: Input) -> Dialogue {
        let mut dialogue = Dialogue::new(input, "run".into());
        hear(
            &mut dialogue,
            &json!({"type": "session_started", "seq": 1, "last_seq": 1}),
        );
        dialogue
    }

    fn hear(dialogue: &mut Dialogue, frame: &Value) -> bool {
        dialogue.heard(&Frame::read(&frame.to_string()))
    }

    fn receipt(seq: u64, id: &str) -> Value {
        json!({"type": "user_message", "seq": seq, "turn_id": "turn-1", "text": "x", "id": id})
    }

    fn done(seq: u64, turn_id: &str) -> Value {
        json!({"type": "done", "seq": seq, "turn_id": turn_id, "text": "", "finish_reason": "stop"})
    }

    fn sent(dialogue: &mut Dialogue) -> Option<Value> {
        let frame = dialogue.next_frame()?;
        Some(serde_json::from_str(&frame).unwrap())
    }

    #[test]
    fn a_piped_line_waits_for_the_answer_to_the_one_before_and_the_end_for_all() {
        let mut dialogue = dialogue(Input::Piped);
        dialogue.line("one");
        dialogue.line("  ");
        dialogue.line("two");
        dialogue.input_ended();

        let one = json!({"type": "message", "message": "one", "id": "run-1"});
        assert_eq!(sent(&mut dialogue), Some(one));
        assert_eq!(sent(&mut dialogue), None);
        hear(&mut dialogue, &receipt(2, "run-1"));
        hear(&mut dialogue, &done(3, "turn-0"));
        assert_eq!(sent(&mut dialogue), None, "that was another's answer");
        hear(&mut dialogue, &done(4, "turn-1"));

        let two = json!({"type": "message", "message": "two", "id": "run-2"});
        assert_eq!(sent(&mut dialogue), Some(two));
        assert!(!dialogue.is_over());
        hear(&mut dialogue, &receipt(5, "run-2"));
        hear(&mut dialogue, &done(6, "turn-1"));
        assert!(dialogue.is_over());
    }

    /// Somebody else's turn is running in the same session.
    #[test]
    fn a_message_that_waits_is_not_answered_by_the_turn_before_it() {
        let mut dialogue = dialogue(Input::Piped);
        dialogue.line("one");
        dialogue.input_ended();
        sent(&mut dialogue);
        hear(
            &mut dialogue,
            &json!({"type": "message_queued", "seq": 2, "text": "one", "id": "run-1"}),
        );
        hear(&mut dialogue, &done(3, "turn-1"));
        assert!(!dialogue.is_over());
        // The server has it, so it is not sent again over the next connection.
        dialogue.lost();
        hear(&mut dialogue, &json!({"type": "replayed"}));
        assert_eq!(sent(&mut dialogue), None);
        let mut said = receipt(4, "run-1");
        said["turn_id"] = json!("turn-2");
        hear(&mut dialogue, &said);
        hear(&mut dialogue, &done(5, "turn-2"));
        assert!(dialogue.is_over());
    }

    #[test]
    fn who_types_leaves_at_once_by_quit_or_the_end_of_input() {
        let mut typed = dialogue(Input::Typed);
        typed.line("hello");
        typed.line("/quit");
        assert!(typed.is_over());

        let mut piped = dialogue(Input::Piped);
        piped.line("hello");
        piped.line("/quit");
        assert!(!piped.is_over() && !piped.wants_lines());
    }

    #[test]
    fn the_first_interruption_stops_the_answer_and_the_second_leaves() {
        let mut dialogue = dialogue(Input::Typed);
        dialogue.line("hello");
        sent(&mut dialogue);
        assert_eq!(dialogue.interrupted(true), Interruption::Cancel);
        assert_eq!(sent(&mut dialogue), Some(json!({"type": "cancel"})));
        assert_eq!(sent(&mut dialogue), None);
        assert_eq!(dialogue.interrupted(true), Interruption::Leave);
        assert!(dialogue.is_over());
    }

    #[test]
    fn when_no_answer_runs_the_first_interruption_leaves() {
        assert_eq!(
            dialogue(Input::Typed).interrupted(false),
            Interruption::Leave
        );
    }

    /// Resending is safe since the id stays; what was received must only be waited for.
    #[test]
    fn a_message_without_receipt_is_sent_again_after_what_was_missed() {
        let mut dialogue = dialogue(Input::Typed);
        dialogue.line("hello");
        let first = sent(&mut dialogue);
        dialogue.lost();
        assert_eq!(sent(&mut dialogue), None);
        hear(
            &mut dialogue,
            &json!({"type": "session_started", "resumed": true, "last_seq": 5}),
        );
        assert_eq!(dialogue.last_seq(), Some(1), "not yet replayed");
        assert_eq!(sent(&mut dialogue), None);
        hear(&mut dialogue, &json!({"type": "replayed", "seq": 5}));
        assert_eq!(sent(&mut dialogue), first);

        hear(&mut dialogue, &receipt(6, "run-1"));
        dialogue.lost();
        hear(&mut dialogue, &json!({"type": "replayed", "seq": 6}));
        assert_eq!(sent(&mut dialogue), None);
    }

    #[test]
    fn an_event_that_was_seen_is_not_heard_again() {
        let mut dialogue = dialogue(Input::Typed);
        assert!(hear(&mut dialogue, &done(7, "turn-1")));
        assert!(!hear(&mut dialogue, &done(7, "turn-1")));
        assert_eq!(dialogue.last_seq(), Some(7));
    }

    #[test]
    fn a_refused_message_is_not_waited_for() {
        let mut dialogue = dialogue(Input::Piped);
        dialogue.line("hello");
        dialogue.input_ended();
        sent(&mut dialogue);
        hear(
            &mut dialogue,
            &json!({"type": "error", "code": "busy", "message": "", "id": "run-1"}),
        );
        assert!(dialogue.is_over());
    }

    #[test]
    fn joining_a_session_that_exists_starts_where_it_is() {
        let mut dialogue = Dialogue::new(Input::Typed, "run".into());
        hear(
            &mut dialogue,
            &json!({"type": "session_started", "resumed": true, "last_seq": 40}),
        );
        assert_eq!(dialogue.last_seq(), Some(40));
        dialogue.line("hello");
        assert!(sent(&mut dialogue).is_some());
    }

    #[test]
    fn lines_are_left_in_the_pipe_when_many_wait() {
        let mut dialogue = dialogue(Input::Piped);
        for _ in 0..LINES_WAITING_MAX {
            assert!(dialogue.wants_lines());
            dialogue.line("hello");
        }
        assert!(!dialogue.wants_lines());
    }
}
