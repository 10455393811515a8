//! Opens a session: claims it, reads its log, and decides what happens to a turn that its last holder
//! left open.

use std::{sync::Arc, time::Duration};

use duologue_protocol::{
    AssistantMessage, ClientConnected, ConnectionId, Event, EventBody, FinishReason, Seq,
    SessionId, Timestamp, TurnId, UserId,
};

use crate::{
    agent::Agent,
    budgets::UserBudget,
    clock::milliseconds,
    context::Context,
    leases::LeaseGuard,
    log::{NewEvent, fold, session_started},
    session::{batch::abandoned, inbox::AttachError},
    store::{Claim, Claimed, Draft, normalize::stored_time},
    transcript::{Transcript, size_bytes},
    turn::usage_meter::estimate,
};

/// The number of a session's first reader.
pub(super) const FIRST_CONNECTION: ConnectionId = ConnectionId(1);

/// Why a session is opened on this server.
pub(crate) enum Opening {
    /// A reader requests it.
    Requested(SessionId, UserId),
    /// Its server was lost, and this one has claimed it in order to end it.
    Lapsed(Box<Claimed>),
}

impl Opening {
    /// Which session it is, and whose.
    pub(crate) fn key(&self) -> (SessionId, UserId) {
        match self {
            Self::Requested(session_id, user_id) => (session_id.clone(), user_id.clone()),
            Self::Lapsed(claimed) => {
                let lease = &claimed.lease;
                (lease.session_id.clone(), lease.user_id.clone())
            }
        }
    }
}

/// A session that was claimed, with its log folded.
pub(super) struct OpenedSession {
    pub(super) claimed: Claimed,
    pub(super) lease_guard: LeaseGuard,
    pub(super) transcript: Transcript,
    pub(super) user_budget: Arc<UserBudget>,
    /// How long it waits for its first reader.
    pub(super) grace: Duration,
    /// The whole log, if the claim started it. The last event is the arrival of the reader for which the
    /// session was opened.
    pub(super) first_arrival: Option<Vec<Event>>,
}

/// Claims a session and reads its log. For a new session this is one store operation.
pub(super) async fn open(
    context: &Arc<Context>,
    opening: Opening,
) -> Result<OpenedSession, AttachError> {
    if context.drain.is_cancelled() {
        return Err(AttachError::ShuttingDown);
    }
    let user_budget = context.budgets.open(&opening.key().1);
    let query = user_budget.outdated(context.clock.now());
    let (claimed, grace, first_events) = match opening {
        Opening::Requested(session_id, user_id) => {
            let spent_since = query.map(|query| query.since);
            let claim = claim(context, session_id, user_id, spent_since);
            let claimed = context.store.claim(&claim).await;
            if claimed.is_err() {
                // It may have taken effect.
                let (session_id, user_id) = (claim.session_id, claim.user_id);
                context.leases.abandon(session_id, user_id, None);
            }
            let claimed = claimed?.ok_or(AttachError::NotFound)?;
            let grace = context.limits.session.resume_grace;
            (claimed, grace, claim.first_events)
        }
        // Its grace has passed.
        Opening::Lapsed(claimed) => (*claimed, Duration::ZERO, Vec::new()),
    };
    let lease_guard = context.leases.hold(claimed.lease.clone());
    match (query, claimed.tokens_spent) {
        (Some(query), Some(spent)) => user_budget.update(query, spent),
        (Some(query), None) => user_budget.refresh(&*context.store, query).await?,
        (None, _) => {}
    }
    let first_arrival = claimed.started.then_some(first_events);
    let mut transcript = Transcript::new(context.limits.turn.prompt_bytes_max);
    if let Some(log) = &first_arrival {
        for event in log {
            transcript.apply(event);
        }
    } else {
        let (lease, last_seq) = (&claimed.lease, claimed.session.last_seq);
        transcript = fold(&*context.store, lease, last_seq, transcript).await?;
    }
    Ok(OpenedSession {
        claimed,
        lease_guard,
        transcript,
        user_budget,
        grace,
        first_arrival,
    })
}

fn claim(
    context: &Context,
    session_id: SessionId,
    user_id: UserId,
    spent_since: Option<Timestamp>,
) -> Claim {
    let (agent, now) = (context.agent.name().to_owned(), context.clock.now());
    let started = session_started(&session_id, &user_id, &agent);
    let connected = EventBody::ClientConnected(ClientConnected {
        connection: FIRST_CONNECTION,
        reopened: false,
    });
    let event = |seq, body| Event {
        seq: Seq(seq),
        occurred_at: stored_time(now),
        turn_id: None,
        body,
    };
    Claim {
        session_id,
        user_id,
        agent,
        server: context.server.clone(),
        lease_duration: context.limits.cluster.lease,
        now,
        first_events: vec![event(1, started), event(2, connected)],
        spent_since,
    }
}

/// What happens to the turn that the last holder left open.
pub(super) enum OpenTurn {
    /// It goes on: it was lost during tool calls, all of which may be made twice.
    Resume(TurnId),
    /// It is closed with what was saved of its answer.
    Close(TurnId, Option<Draft>),
}

/// Finds the open turn, if there is one. `draft` is what was saved last in the session.
pub(super) fn open_turn(
    transcript: &Transcript,
    agent: &dyn Agent,
    draft: Option<Draft>,
) -> Option<OpenTurn> {
    let turn_id = transcript.open_turn?;
    let draft = draft.filter(|draft| draft.turn_id == turn_id);
    let calls = &transcript.open_calls;
    let may_call_again =
        !calls.is_empty() && calls.iter().all(|call| agent.is_idempotent(&call.name));
    // A draft, even an empty one, is the mark of a turn that was resumed before.
    Some(if draft.is_none() && may_call_again {
        OpenTurn::Resume(turn_id)
    } else {
        OpenTurn::Close(turn_id, draft)
    })
}

/// The draft that marks a turn as resumed. It is saved before the tools are called: a call that
/// crashes its server would otherwise crash one server after the other.
pub(super) fn resumed_mark(turn_id: TurnId) -> Draft {
    Draft {
        turn_id,
        text: String::new(),
    }
}

/// The events that close a turn whose task is lost, at the time `now`.
pub(super) fn closing_events(
    transcript: &Transcript,
    turn_id: TurnId,
    draft: Option<Draft>,
    now: Timestamp,
) -> Vec<NewEvent> {
    let text = draft.map(|draft| draft.text);
    // The saved text was generated, so it is charged; the exact number of tokens is unknown.
    let usage = text.as_ref().filter(|text| !text.is_empty()).map(|text| {
        let request = transcript.messages.iter().map(size_bytes).sum::<usize>();
        estimate(request as u64, text.len() as u64)
    });
    let answer = AssistantMessage {
        text: text.unwrap_or_default().into(),
        finish_reason: FinishReason::Interrupted,
        error: None,
        usage,
        ttft_ms: None,
        duration_ms: duration_ms(transcript.open_turn_started_at, now),
        model: "none".to_owned(),
    };
    let calls = transcript.open_calls.clone();
    let results = abandoned(calls, "the server stopped before the tool answered");
    let bodies = results.chain([EventBody::AssistantMessage(answer)]);
    bodies.map(|body| (Some(turn_id), body)).collect()
}

/// How long a lost turn was open, by the log's times: from its `user_message` to the event that closes
/// it. This includes the time until a server opened the session again, since nothing in the log says
/// when the turn's task was lost.
fn duration_ms(started_at: Option<Timestamp>, now: Timestamp) -> u64 {
    let open = started_at.and_then(|started_at| now.duration_since(started_at).try_into().ok());
    open.map_or(0, milliseconds)
}
