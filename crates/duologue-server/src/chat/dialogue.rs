//! Which message is out, which wait, and when to leave. Pure; nothing is sent.
//!
//! One message is out at a time, so that a long piped file does not run into the server's limit of
//! waiting messages.

use std::collections::VecDeque;

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
    waiting: VecDeque<String>,
    out: Option<Out>,
    /// Whether the running answer was cancelled over this connection.
    is_cancelled: bool,
    end: End,
}

/// A message that was sent and has no answer yet.
#[derive(Debug)]
struct Out {
    id: String,
    /// The turn that answers it, once that has begun.
    turn_id: Option<String>,
    /// Whether the server acknowledged it.
    is_received: bool,
}

/// How far leaving has come.
#[derive(Debug, PartialEq)]
enum End {
    No,
    AfterAnswers,
    Now,
}

impl Dialogue {
    pub(super) fn new(input: Input) -> Self {
        Self {
            input,
            waiting: VecDeque::new(),
            out: None,
            is_cancelled: false,
            end: End::No,
        }
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

    /// There are no more lines. A person who types leaves; a file waits for its answers.
    pub(super) fn input_ended(&mut self) {
        self.end = match self.input {
            Input::Typed => End::Now,
            Input::Piped => End::AfterAnswers,
        };
    }

    /// The user has pressed Ctrl-C. `is_answering`: an answer is in progress.
    pub(super) fn interrupted(&mut self, is_live: bool, is_answering: bool) -> Interruption {
        let is_running = is_live && (is_answering || self.out.is_some());
        if is_running && !self.is_cancelled {
            self.is_cancelled = true;
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
            End::AfterAnswers => !self.is_unanswered(),
            End::Now => true,
        }
    }

    /// Whether a message has no answer.
    pub(super) fn is_unanswered(&self) -> bool {
        self.out.is_some() || !self.waiting.is_empty()
    }

    /// The next message, if no other is out.
    pub(super) fn next_line(&mut self) -> Option<String> {
        if self.out.is_some() {
            return None;
        }
        self.waiting.pop_front()
    }

    /// The message was given to the client, which named it.
    pub(super) fn sent(&mut self, id: String) {
        self.out = Some(Out {
            id,
            turn_id: None,
            is_received: false,
        });
    }

    /// The client gave the message up.
    pub(super) fn abandoned(&mut self, id: &str) {
        self.out.take_if(|out| out.id == id);
    }

    /// The connection is gone.
    pub(super) fn disconnected(&mut self) {
        self.is_cancelled = false;
    }

    /// The log is gone, and with it the turns of messages that the server had.
    pub(super) fn history_lost(&mut self) {
        self.is_cancelled = false;
        self.out.take_if(|out| out.is_received);
    }

    /// Applies a new frame.
    pub(super) fn receive(&mut self, frame: &Frame) {
        match &frame.body {
            Body::MessageQueued { id: Some(id) } => self.received(id, None),
            Body::UserMessage { id: Some(id), .. } => self.received(id, frame.turn_id.clone()),
            Body::Done { .. } => {
                self.is_cancelled = false;
                self.out
                    .take_if(|out| out.turn_id.is_some() && out.turn_id == frame.turn_id);
            }
            // Refused: there is no turn, and no answer will come.
            Body::Error { id: Some(id), .. } if frame.turn_id.is_none() => {
                self.out.take_if(|out| out.id == *id);
            }
            _ => {}
        }
    }

    fn received(&mut self, id: &str, turn_id: Option<String>) {
        if let Some(out) = &mut self.out
            && out.id == id
        {
            out.is_received = true;
            out.turn_id = turn_id;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn receive(dialogue: &mut Dialogue, frame: &Value) {
        dialogue.receive(&Frame::read(&frame.to_string()));
    }

    fn receipt(turn_id: &str, id: &str) -> Value {
        json!({"type": "user_message", "seq": 2, "turn_id": turn_id, "text": "x", "id": id})
    }

    fn done(turn_id: &str) -> Value {
        json!({"type": "done", "seq": 3, "turn_id": turn_id, "text": "", "finish_reason": "stop"})
    }

    /// Gives the next line to a client that names it.
    fn send(dialogue: &mut Dialogue, id: &str) -> Option<String> {
        let line = dialogue.next_line()?;
        dialogue.sent(id.to_owned());
        Some(line)
    }

    #[test]
    fn a_piped_line_waits_for_the_answer_to_the_one_before_and_the_end_for_all() {
        let mut dialogue = Dialogue::new(Input::Piped);
        dialogue.line("one");
        dialogue.line("  ");
        dialogue.line("two");
        dialogue.input_ended();

        assert_eq!(send(&mut dialogue, "run-1").as_deref(), Some("one"));
        assert_eq!(dialogue.next_line(), None);
        receive(&mut dialogue, &receipt("turn-1", "run-1"));
        receive(&mut dialogue, &done("turn-0"));
        assert_eq!(dialogue.next_line(), None, "that was another's answer");
        receive(&mut dialogue, &done("turn-1"));

        assert_eq!(send(&mut dialogue, "run-2").as_deref(), Some("two"));
        assert!(!dialogue.is_over());
        receive(&mut dialogue, &receipt("turn-2", "run-2"));
        receive(&mut dialogue, &done("turn-2"));
        assert!(dialogue.is_over());
    }

    /// Somebody else's turn is running in the same session.
    #[test]
    fn a_message_that_waits_is_not_answered_by_the_turn_before_it() {
        let mut dialogue = Dialogue::new(Input::Piped);
        dialogue.line("one");
        dialogue.input_ended();
        send(&mut dialogue, "run-1");
        receive(
            &mut dialogue,
            &json!({"type": "message_queued", "seq": 2, "text": "one", "id": "run-1"}),
        );
        receive(&mut dialogue, &done("turn-1"));
        assert!(!dialogue.is_over());
        dialogue.disconnected();
        receive(&mut dialogue, &receipt("turn-2", "run-1"));
        receive(&mut dialogue, &done("turn-2"));
        assert!(dialogue.is_over());
    }

    #[test]
    fn who_types_leaves_at_once_by_quit_or_the_end_of_input() {
        let mut typed = Dialogue::new(Input::Typed);
        typed.line("hello");
        typed.line("/quit");
        assert!(typed.is_over());

        let mut piped = Dialogue::new(Input::Piped);
        piped.line("hello");
        piped.line("/quit");
        assert!(!piped.is_over() && !piped.wants_lines());
    }

    #[test]
    fn the_first_interruption_stops_the_answer_and_the_second_leaves() {
        let mut dialogue = Dialogue::new(Input::Typed);
        dialogue.line("hello");
        send(&mut dialogue, "run-1");
        assert_eq!(dialogue.interrupted(true, true), Interruption::Cancel);
        assert_eq!(dialogue.interrupted(true, true), Interruption::Leave);
        assert!(dialogue.is_over());
    }

    #[test]
    fn when_no_answer_runs_the_first_interruption_leaves() {
        let mut idle = Dialogue::new(Input::Typed);
        assert_eq!(idle.interrupted(true, false), Interruption::Leave);
        let mut disconnected = Dialogue::new(Input::Typed);
        disconnected.line("hello");
        send(&mut disconnected, "run-1");
        assert_eq!(disconnected.interrupted(false, false), Interruption::Leave);
    }

    #[test]
    fn a_refused_or_abandoned_message_is_not_waited_for() {
        let error = |id| json!({"type": "error", "code": "busy", "message": "", "id": id});
        let mut dialogue = Dialogue::new(Input::Piped);
        dialogue.line("one");
        dialogue.line("two");
        dialogue.input_ended();
        send(&mut dialogue, "run-1");
        receive(&mut dialogue, &error("another"));
        assert_eq!(dialogue.next_line(), None);
        receive(&mut dialogue, &error("run-1"));
        send(&mut dialogue, "run-2").unwrap();
        dialogue.abandoned("run-2");
        assert!(dialogue.is_over());
    }

    /// A message without a receipt is sent again by the client; one with a receipt is gone with the log.
    #[test]
    fn a_lost_log_has_no_answers_to_wait_for() {
        let mut dialogue = Dialogue::new(Input::Piped);
        dialogue.line("one");
        dialogue.input_ended();
        send(&mut dialogue, "run-1");
        dialogue.history_lost();
        assert!(!dialogue.is_over());
        receive(&mut dialogue, &receipt("turn-1", "run-1"));
        dialogue.history_lost();
        assert!(dialogue.is_over());
    }

    #[test]
    fn lines_are_left_in_the_pipe_when_many_wait() {
        let mut dialogue = Dialogue::new(Input::Typed);
        for _ in 0..LINES_WAITING_MAX {
            assert!(dialogue.wants_lines());
            dialogue.line("hello");
        }
        assert!(!dialogue.wants_lines());
    }
}
