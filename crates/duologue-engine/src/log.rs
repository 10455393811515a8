//! A session's log: how it starts, and how it is read.

use std::sync::Arc;

use duologue_protocol::{
    Event, EventBody, MessageQueued, Seq, SessionId, SessionStarted, TurnId, UserId, UserMessage,
};

use crate::{
    store::{Lease, Store, StoreError},
    transcript::{MessagePosition, Transcript},
};

/// Events read at a time to find the end of a message's turn. Few turns have more.
const RECEIPT_PAGE_EVENTS: u32 = 16;

/// An event before it has a number and a time: its turn, and what happened.
pub(crate) type NewEvent = (Option<TurnId>, EventBody);

/// What every log starts with.
pub(crate) fn session_started(session_id: &SessionId, user_id: &UserId, agent: &str) -> EventBody {
    EventBody::SessionStarted(SessionStarted {
        session_id: session_id.clone(),
        user_id: user_id.clone(),
        agent: agent.to_owned(),
    })
}

/// Folds a session's log, which ends with `last_seq`, into `transcript`, a page at a time.
pub(crate) async fn fold(
    store: &dyn Store,
    lease: &Lease,
    last_seq: Seq,
    mut transcript: Transcript,
) -> Result<Transcript, StoreError> {
    let owner = (&lease.user_id, &lease.session_id);
    for_each_event(store, owner, last_seq, |event| transcript.apply(&event)).await?;
    Ok(transcript)
}

/// Visits the events of a session's log up to `last_seq`, oldest first, a page at a time.
pub(crate) async fn for_each_event(
    store: &dyn Store,
    (user_id, session_id): (&UserId, &SessionId),
    last_seq: Seq,
    mut visit: impl FnMut(Event) + Send,
) -> Result<(), StoreError> {
    // After a restart many sessions are opened at once, each with a page in memory.
    const PAGE_EVENTS: u32 = 100;
    let mut after = Seq::ZERO;
    // Most logs fit into one page, and without their end in view another would be asked for.
    while after < last_seq {
        let page = store.read(user_id, session_id, after, PAGE_EVENTS).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.seq;
        let events = page.into_iter();
        events
            .take_while(|event| event.seq <= last_seq)
            .for_each(&mut visit);
    }
    Ok(())
}

/// What the log has of a message.
pub(crate) struct Receipt {
    /// The message's text.
    pub(crate) text: Arc<str>,
    /// That it was queued, that its turn started, and that its turn is over, as far as that happened.
    pub(crate) events: Vec<Event>,
}

/// Reads what the log has of the message at `position`.
pub(crate) async fn receipt(
    store: &dyn Store,
    lease: &Lease,
    position: MessagePosition,
) -> Result<Receipt, StoreError> {
    let mut events = Vec::new();
    if let Some(seq) = position.queued {
        events.extend(page(store, lease, seq, 1).await?);
    }
    if let Some(seq) = position.message {
        events.extend(message_and_end(store, lease, seq).await?);
    }
    let text = match events.first().map(|event| &event.body) {
        Some(
            EventBody::MessageQueued(MessageQueued { text, .. })
            | EventBody::UserMessage(UserMessage { text, .. }),
        ) => Arc::clone(text),
        _ => {
            return Err(StoreError::Corrupt(
                "the log lacks a message that it had".into(),
            ));
        }
    };
    Ok(Receipt { text, events })
}

/// Reads the message at `seq`, and the end of its turn, if that is there.
async fn message_and_end(
    store: &dyn Store,
    lease: &Lease,
    seq: Seq,
) -> Result<Vec<Event>, StoreError> {
    let mut found = Vec::new();
    let mut next = seq;
    loop {
        let page = page(store, lease, next, RECEIPT_PAGE_EVENTS).await?;
        let Some(last) = page.last() else { break };
        next = last.seq.next();
        for event in page {
            let is_end = matches!(event.body, EventBody::AssistantMessage(_));
            if is_end || event.seq == seq {
                found.push(event);
            }
            if is_end {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

/// Reads the events from `seq` on.
async fn page(
    store: &dyn Store,
    lease: &Lease,
    seq: Seq,
    limit: u32,
) -> Result<Vec<Event>, StoreError> {
    let (user, session) = (&lease.user_id, &lease.session_id);
    store.read(user, session, Seq(seq.0 - 1), limit).await
}
