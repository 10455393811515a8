//! What a person sees of a session: frames become text for a terminal. Pure; nothing is written.

use std::fmt::Write;

use serde_json::Value;

use crate::chat::frame::{Body, Frame};

/// How much of a tool's arguments or result is shown, in characters.
const JSON_CHARS_MAX: usize = 300;

/// Whether text may be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// With escape sequences, for terminals.
    On,
    /// Without, for files and if `NO_COLOR` is set.
    Off,
}

/// Whether a person types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// At a terminal: there is a prompt, and the end of input means "leave now".
    Typed,
    /// From a file or a pipe: the end of input means "leave when all is answered".
    Piped,
}

/// Turns frames into text, keeping track of what is on the screen already.
#[derive(Debug)]
pub(super) struct View {
    colour: Colour,
    input: Input,
    answer: Option<Answer>,
    at_line_start: bool,
    /// Whether the last thing written was a prompt, which nobody has answered yet.
    prompted: bool,
}

/// The answer that is being shown.
#[derive(Debug, Default)]
struct Answer {
    turn_id: Option<String>,
    shown: String,
    next_index: u64,
}

impl View {
    pub(super) fn new(colour: Colour, input: Input) -> Self {
        Self {
            colour,
            input,
            answer: None,
            at_line_start: true,
            prompted: false,
        }
    }

    /// Whether an answer is forming.
    pub(super) fn is_answering(&self) -> bool {
        self.answer.is_some()
    }

    /// What to write for a frame; often nothing.
    pub(super) fn show(&mut self, frame: &Frame) -> String {
        match &frame.body {
            Body::SessionStarted {
                session_id,
                user_id,
                agent,
                resumed: false,
                ..
            } => {
                let hint = match self.input {
                    Input::Typed => "\nType a message. Ctrl-C stops an answer, /quit leaves.",
                    Input::Piped => "",
                };
                self.note(&format!(
                    "Session {session_id}, as {user_id}, with {agent}.{hint}"
                ))
            }
            Body::SessionStarted { session_id, .. } => {
                self.note(&format!("Back in session {session_id}."))
            }
            Body::Start => {
                self.answer_of(frame);
                String::new()
            }
            Body::Routed { route, tool } => match tool {
                Some(tool) => self.note(&format!("· {route}: {tool}")),
                None => self.note(&format!("· {route}")),
            },
            Body::ToolCall { name, arguments } => {
                self.note(&format!("→ {name} {}", short(arguments)))
            }
            Body::ToolResult {
                name,
                result,
                error,
                duration_ms,
            } => match error {
                Some(error) => self.warning(&format!("✗ {name}, {duration_ms} ms: {error}")),
                None => self.note(&format!("← {name}, {duration_ms} ms: {}", short(result))),
            },
            Body::FollowUp { tool, missing } => {
                self.note(&format!("? {tool} needs {}", missing.join(" and ")))
            }
            Body::Token { token, index } => self.token(frame, token, *index),
            Body::Draft { text, next_index } => self.catch_up(frame, text, *next_index),
            Body::Done {
                text,
                finish_reason,
            } => self.done(frame, text, finish_reason),
            Body::Error {
                code,
                message,
                retryable,
                ..
            } => {
                let hint = ["", " You can try again."][usize::from(*retryable)];
                self.warning(&format!("! {message} ({code}){hint}"))
            }
            Body::SessionEnded { reason } => {
                self.note(&format!("The session has ended ({reason})."))
            }
            // The user's own messages, and frames that are not for people.
            Body::MessageQueued { .. } | Body::UserMessage { .. } | Body::Unknown => String::new(),
        }
    }

    /// A message of one's own that the server has, but not yet answers.
    pub(super) fn waits(&mut self) -> String {
        self.note("· waiting for the running answer; Ctrl-C stops that")
    }

    /// A message of somebody else in the same session.
    pub(super) fn other_said(&mut self, text: &str) -> String {
        self.note(&format!("« {text}"))
    }

    /// Something that is not part of the conversation.
    pub(super) fn note(&mut self, text: &str) -> String {
        self.line(text, "\x1b[2m")
    }

    /// Something that went wrong.
    pub(super) fn warning(&mut self, text: &str) -> String {
        self.line(text, "\x1b[31m")
    }

    /// The prompt, where one is wanted and none is there.
    pub(super) fn prompt(&mut self) -> &'static str {
        if self.prompted || self.input == Input::Piped || self.is_answering() {
            return "";
        }
        self.prompted = true;
        "> "
    }

    /// The user has typed a line, so that the cursor stands at the start of the next.
    pub(super) fn line_was_typed(&mut self) {
        self.prompted = false;
    }

    fn line(&mut self, text: &str, style: &str) -> String {
        let mut out = self.take_back_prompt();
        // A line of its own, even in the middle of an answer.
        self.end_line(&mut out);
        let text = printable(text);
        match self.colour {
            Colour::On => writeln!(out, "{style}{text}\x1b[0m"),
            Colour::Off => writeln!(out, "{text}"),
        }
        .expect("writing to a string succeeds");
        out
    }

    fn end_line(&mut self, out: &mut String) {
        if !std::mem::replace(&mut self.at_line_start, true) {
            out.push('\n');
        }
    }

    /// A piece of an answer, which may end anywhere.
    fn piece(&mut self, text: &str, out: &mut String) {
        if !text.is_empty() {
            out.push_str(&printable(text));
            self.at_line_start = text.ends_with('\n');
        }
    }

    fn take_back_prompt(&mut self) -> String {
        if std::mem::take(&mut self.prompted) {
            "\r\x1b[K".to_owned()
        } else {
            String::new()
        }
    }

    fn answer_of(&mut self, frame: &Frame) -> &mut Answer {
        let is_same = |answer: &Answer| answer.turn_id == frame.turn_id;
        if !self.answer.as_ref().is_some_and(is_same) {
            self.answer = Some(Answer {
                turn_id: frame.turn_id.clone(),
                ..Answer::default()
            });
        }
        self.answer.as_mut().expect("it was just made")
    }

    fn token(&mut self, frame: &Frame, token: &str, index: u64) -> String {
        let mut out = self.take_back_prompt();
        let answer = self.answer_of(frame);
        // A piece that is on the screen already comes again after some reconnections.
        if index >= answer.next_index {
            answer.next_index = index + 1;
            answer.shown.push_str(token);
            self.piece(token, &mut out);
        }
        out
    }

    /// Brings the screen up to `text`, the whole answer so far.
    fn catch_up(&mut self, frame: &Frame, text: &str, next_index: u64) -> String {
        let mut out = self.take_back_prompt();
        let answer = self.answer_of(frame);
        answer.next_index = answer.next_index.max(next_index);
        let shown = std::mem::replace(&mut answer.shown, text.to_owned());
        if let Some(rest) = text.strip_prefix(shown.as_str()) {
            self.piece(rest, &mut out);
        } else {
            // What is on the screen cannot be taken back, only said again.
            self.end_line(&mut out);
            self.piece(text, &mut out);
        }
        out
    }

    fn done(&mut self, frame: &Frame, text: &str, finish_reason: &str) -> String {
        let mut out = self.catch_up(frame, text, 0);
        self.answer = None;
        self.end_line(&mut out);
        let note = match finish_reason {
            "cancelled" => "· stopped",
            "length" => "· cut: the answer reached its limit",
            "interrupted" => "· interrupted: the server went away in the middle of it",
            "error" => "· failed",
            _ => "",
        };
        if !note.is_empty() {
            out.push_str(&self.note(note));
        }
        if self.input == Input::Typed {
            out.push('\n');
        }
        out
    }
}

fn short(value: &Value) -> String {
    let json = value.to_string();
    match json.char_indices().nth(JSON_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &json[..end]),
        None => json,
    }
}

/// Text as it may go to a terminal: control characters could move the cursor or do worse.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\t') {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn show(view: &mut View, frames: &[Value]) -> String {
        let frames = frames.iter().map(|frame| Frame::read(&frame.to_string()));
        frames.map(|frame| view.show(&frame)).collect()
    }

    fn token(index: u64, token: &str) -> Value {
        json!({"type": "token", "turn_id": "turn-1", "index": index, "token": token})
    }

    fn done(text: &str, finish_reason: &str) -> Value {
        json!({
            "type": "done", "seq": 9, "turn_id": "turn-1", "text": text,
            "finish_reason": finish_reason
        })
    }

    #[test]
    fn a_turn_reads_like_a_conversation_with_notes() {
        let mut view = View::new(Colour::Off, Input::Piped);
        let text = show(
            &mut view,
            &[
                json!({
                    "type": "session_started", "session_id": "s", "user_id": "ann",
                    "agent": "concierge"
                }),
                json!({"type": "user_message", "text": "Where is ORD-1001?"}),
                json!({"type": "start", "turn_id": "turn-1"}),
                json!({"type": "routed", "route": "orders", "tool": "fetch_order_status"}),
                json!({
                    "type": "tool_call", "name": "fetch_order_status",
                    "arguments": {"order_id": "ORD-1001"}
                }),
                json!({
                    "type": "tool_result", "name": "fetch_order_status",
                    "result": {"status": "shipped"}, "duration_ms": 3
                }),
                token(0, "It has "),
                token(1, "shipped."),
                done("It has shipped.", "stop"),
                json!({"type": "session_ended", "reason": "closed"}),
            ],
        );
        insta::assert_snapshot!(text, @r#"
        Session s, as ann, with concierge.
        · orders: fetch_order_status
        → fetch_order_status {"order_id":"ORD-1001"}
        ← fetch_order_status, 3 ms: {"status":"shipped"}
        It has shipped.
        The session has ended (closed).
        "#);
    }

    #[test]
    fn follow_ups_and_failures_say_what_they_are() {
        let mut view = View::new(Colour::Off, Input::Piped);
        let text = show(
            &mut view,
            &[
                json!({"type": "follow_up", "tool": "fetch_invoice", "missing": ["user_id", "month"]}),
                token(0, "Which month?"),
                done("Which month?", "follow_up"),
                json!({
                    "type": "error", "code": "upstream_timeout", "retryable": true,
                    "message": "The model took too long."
                }),
                done("", "error"),
                token(0, "Half an ans"),
                done("Half an ans", "cancelled"),
            ],
        );
        insta::assert_snapshot!(text, @r"
        ? fetch_invoice needs user_id and month
        Which month?
        ! The model took too long. (upstream_timeout) You can try again.
        · failed
        Half an ans
        · stopped
        ");
    }

    /// After a reconnection the server sends a draft; what was seen before is not said twice.
    #[test]
    fn a_draft_continues_what_is_on_the_screen() {
        let mut view = View::new(Colour::Off, Input::Piped);
        let draft = json!({
            "type": "draft", "turn_id": "turn-1", "text": "one two three", "next_index": 3
        });
        let text = show(
            &mut view,
            &[
                token(0, "one "),
                token(1, "two"),
                draft,
                token(2, " three"),
                token(3, " four"),
                done("one two three four five", "stop"),
            ],
        );
        assert_eq!(text, "one two three four five\n");
    }

    #[test]
    fn a_note_in_the_middle_of_an_answer_has_a_line_of_its_own() {
        let mut view = View::new(Colour::Off, Input::Piped);
        let mut text = show(&mut view, &[token(0, "one ")]);
        text += &view.note("· stopping");
        text += &show(&mut view, &[done("one ", "cancelled")]);
        assert_eq!(text, "one \n· stopping\n· stopped\n");
        let mut text = show(&mut view, &[token(0, "two ")]);
        text += &view.waits();
        assert_eq!(
            text,
            "two \n· waiting for the running answer; Ctrl-C stops that\n"
        );
    }

    #[test]
    fn an_answer_that_was_missed_altogether_is_shown_when_it_is_done() {
        let mut view = View::new(Colour::Off, Input::Piped);
        assert_eq!(
            show(&mut view, &[done("All of it.", "stop")]),
            "All of it.\n"
        );
    }

    #[test]
    fn colours_are_for_terminals_and_a_model_cannot_send_its_own() {
        let mut view = View::new(Colour::On, Input::Typed);
        assert_eq!(view.note("aside"), "\x1b[2maside\x1b[0m\n");
        let text = show(&mut view, &[token(0, "\x1b[2Jgone?\n")]);
        assert_eq!(text, "\u{fffd}[2Jgone?\n");
        assert_eq!(
            View::new(Colour::Off, Input::Typed).note("aside"),
            "aside\n"
        );
    }

    #[test]
    fn the_prompt_is_there_once_and_gives_way() {
        let mut view = View::new(Colour::Off, Input::Typed);
        assert_eq!(view.prompt(), "> ");
        assert_eq!(view.prompt(), "");
        assert_eq!(view.other_said("hi"), "\r\x1b[K« hi\n");
        assert_eq!(view.prompt(), "> ");
        view.line_was_typed();
        assert_eq!(view.other_said("hi"), "« hi\n");
        assert_eq!(View::new(Colour::Off, Input::Piped).prompt(), "");
    }
}
