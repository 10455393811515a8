//! The turn that a session's last holder left open: taken up again where that is safe, or else closed
//! with what is known of its answer.

use duologue_protocol::{AssistantMessage, EventBody, FinishReason, TurnId};

use crate::{
    log::Entry,
    session::{Session, SessionExit, Step, recording::abandoned},
    store::Draft,
    transcript::{Transcript, size_bytes},
    turn::usage_meter::estimate,
};

impl Session {
    /// Sees to it that the open turn gets its end.
    pub(super) async fn settle_interrupted_turn(&mut self) -> Step {
        let draft = self.left_draft.take();
        let Some(turn_id) = self.transcript.open_turn else {
            return Ok(());
        };
        let draft = draft.filter(|draft| draft.turn_id == turn_id);
        if draft.is_none() && self.may_call_again() && self.take_up(turn_id).await? {
            return Ok(());
        }
        let entries = closing(&self.transcript, turn_id, draft);
        self.append(entries).await?;
        Ok(())
    }

    /// Whether the turn was lost while tools were at work, all of which may be called twice.
    fn may_call_again(&self) -> bool {
        let calls = &self.transcript.open_calls;
        let agent = &self.context.agent;
        !calls.is_empty() && calls.iter().all(|call| agent.is_idempotent(&call.name))
    }

    /// Goes on with the turn. It was never taken up before, and nothing of its answer was kept.
    ///
    /// That it is taken up now is marked by an empty draft, kept before the tools are called: a call
    /// that takes its server down would otherwise take down one after the other.
    async fn take_up(&mut self, turn_id: TurnId) -> Result<bool, SessionExit> {
        let mark = Draft {
            turn_id,
            text: String::new(),
        };
        let store = &self.context.store;
        store.save_draft(self.log.lease(), &mark).await?;
        let is_resumed = self.resume_turn(turn_id);
        tracing::info!(turn.id = %turn_id, is_resumed, "turn.taken_up");
        Ok(is_resumed)
    }
}

/// The entries that close a turn whose task is lost.
fn closing(transcript: &Transcript, turn_id: TurnId, draft: Option<Draft>) -> Vec<Entry> {
    let text = draft.map(|draft| draft.text);
    // What was said was paid for, though nobody knows how much.
    let usage = text.as_ref().filter(|text| !text.is_empty()).map(|text| {
        let asked = transcript.messages.iter().map(size_bytes).sum::<usize>();
        estimate(asked as u64, text.len() as u64)
    });
    let answer = AssistantMessage {
        text: text.unwrap_or_default().into(),
        finish_reason: FinishReason::Interrupted,
        error: None,
        usage,
        ttft_ms: None,
        duration_ms: 0,
        model: "none".to_owned(),
    };
    let calls = transcript.open_calls.clone();
    let results = abandoned(calls, "the server stopped before the tool answered");
    let bodies = results.chain([EventBody::AssistantMessage(answer)]);
    bodies.map(|body| (Some(turn_id), body)).collect()
}
