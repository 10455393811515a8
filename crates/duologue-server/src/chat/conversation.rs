//! A conversation: the loop between a person and a session.

use std::{
    io::{self, Write},
    time::Duration,
};

use duologue_client::{Client, ClientError, Loss, Received, Refusal, Update};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use crate::chat::{
    dialogue::{Dialogue, Interruption},
    error::ChatError,
    frame::{Body, Frame},
    input::Lines,
    view::View,
};

/// How long the server may take to agree to a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// One person's conversation.
pub(super) struct Conversation<W> {
    pub(super) client: Client,
    pub(super) dialogue: Dialogue,
    pub(super) view: View,
    pub(super) lines: Lines,
    pub(super) interrupts: mpsc::Receiver<()>,
    pub(super) output: W,
}

impl<W: Write> Conversation<W> {
    /// Runs until the person leaves or the session ends.
    pub(super) async fn run(mut self) -> Result<(), ChatError> {
        loop {
            while let Some(line) = self.dialogue.next_line() {
                let id = self.client.send(line);
                self.dialogue.sent(id);
            }
            if self.dialogue.is_over() {
                return self.leave().await;
            }
            tokio::select! {
                update = self.client.next() => match update {
                    Ok(Some(update)) => self.update(update)?,
                    Ok(None) if self.dialogue.is_unanswered() => return Err(ChatError::Unanswered),
                    Ok(None) => return Ok(()),
                    Err(error) => return Err(self.explained(error)),
                },
                line = self.lines.recv(), if self.dialogue.wants_lines() => self.take(line)?,
                Some(()) = self.interrupts.recv() => self.interrupt()?,
            }
        }
    }

    fn update(&mut self, update: Update) -> Result<(), ChatError> {
        let text = match update {
            Update::Frame(received) => return self.receive(&received),
            Update::Disconnected { loss, retry_at } => {
                self.dialogue.disconnected();
                let seconds = retry_at.duration_since(Instant::now()).as_secs_f32();
                self.view
                    .note(&format!("· {loss}; connecting again in {seconds:.1} s"))
            }
            Update::HistoryLost => {
                self.dialogue.history_lost();
                self.view
                    .warning("! the session was restored from a backup; this is what it has now")
            }
            Update::TooBig(error) => {
                self.dialogue.abandoned(&error.id);
                self.view.warning(&format!("! {error}"))
            }
            Update::Abandoned(id) => {
                self.dialogue.abandoned(&id);
                self.view
                    .warning("! the message was not sent: the connection was lost each time")
            }
        };
        self.write(&text)
    }

    fn receive(&mut self, received: &Received) -> Result<(), ChatError> {
        if !received.is_new {
            return Ok(());
        }
        let frame = Frame::read(&received.text);
        self.dialogue.receive(&frame);
        let is_own = |id: &Option<String>| {
            let session = self.client.session();
            id.as_deref().is_some_and(|id| session.is_own_id(id))
        };
        let text = match &frame.body {
            Body::UserMessage { text, id } if !is_own(id) => self.view.other_said(text),
            Body::MessageQueued { id } if is_own(id) => self.view.waits(),
            _ => self.view.show(&frame),
        };
        self.write(&text)
    }

    fn take(&mut self, line: Option<io::Result<String>>) -> Result<(), ChatError> {
        let Some(line) = line else {
            self.dialogue.input_ended();
            return Ok(());
        };
        self.view.line_was_typed();
        self.dialogue.line(&line.map_err(ChatError::Input)?);
        self.write("")
    }

    fn interrupt(&mut self) -> Result<(), ChatError> {
        let is_live = self.client.session().is_live();
        let is_answering = self.view.is_answering();
        match self.dialogue.interrupted(is_live, is_answering) {
            Interruption::Cancel => {
                self.client.cancel();
                let note = self.view.note("· stopping; press Ctrl-C again to leave");
                self.write(&note)
            }
            Interruption::Leave => Ok(()),
        }
    }

    /// Ends the session: a close with 1000 says that its user is done with it.
    async fn leave(&mut self) -> Result<(), ChatError> {
        self.client.leave();
        let ending = async {
            // Whatever fails now, the server sees that the connection is gone, and the person has left.
            while let Ok(Some(update)) = self.client.next().await {
                if let Update::Frame(received) = update
                    && received.kind() == "session_ended"
                {
                    self.receive(&received)?;
                }
            }
            Ok(())
        };
        timeout(CLOSE_TIMEOUT, ending).await.unwrap_or(Ok(()))
    }

    /// What happened, and what the person can do.
    fn explained(&self, error: ClientError) -> ChatError {
        match error {
            ClientError::Unreachable { server, loss } => ChatError::Unreachable {
                server,
                reason: loss.to_string(),
            },
            ClientError::GaveUp(Loss::Refused(refusal)) => {
                ChatError::Refused(advice(&refusal, self.client.address().server()))
            }
            ClientError::GaveUp(Loss::TokenRequired) => ChatError::Refused(
                "it requires a token; set DUOLOGUE_TOKEN, or name a file with --token-file"
                    .to_owned(),
            ),
            ClientError::GaveUp(Loss::Token(error)) => ChatError::Token(error),
            ClientError::GaveUp(loss) => ChatError::Closed(loss.to_string()),
        }
    }

    /// Writes, and then prompts where the person may type.
    fn write(&mut self, text: &str) -> Result<(), ChatError> {
        let has_started = self.client.session().position().is_some();
        let prompt = if self.dialogue.is_unanswered() || !has_started {
            ""
        } else {
            self.view.prompt()
        };
        let write = |output: &mut W| {
            output.write_all(text.as_bytes())?;
            output.write_all(prompt.as_bytes())?;
            output.flush()
        };
        write(&mut self.output).map_err(ChatError::Output)
    }
}

fn advice(refusal: &Refusal, server: &str) -> String {
    let what_to_do = match (refusal.status, refusal.code.as_deref()) {
        (404, Some("session_not_found")) => {
            "choose another session with --session, or name the session's user with --user"
        }
        (_, Some("unauthorized")) => {
            "set DUOLOGUE_TOKEN to a valid token, or name a file that has one with --token-file"
        }
        (_, Some(_)) => return refusal.to_string(),
        (status, None) => {
            return format!(
                "there is no Duologue server at {server} (HTTP {status}); check the address"
            );
        }
    };
    format!("{refusal}; {what_to_do}")
}
