//! What must be true when all is over: the logs, the rows, and what the clients were told, together.

mod ending;
mod log;

use std::collections::BTreeMap;

use duologue_engine::store::SessionRecord;
use duologue_protocol::{Event, EventBody, Seq, ServerFrame, SessionId, UserId};
use futures_util::FutureExt;

use crate::{canary, client::Knowledge, server, simulation::World};

/// One session as it is kept.
struct Kept {
    record: SessionRecord,
    events: Vec<Event>,
}

/// Checks everything, and notes what is wrong in the history.
pub(crate) fn judge(world: &World) {
    let sessions = world.database.ledger(|ledger| ledger.sessions.clone());
    let knowledge = world.clients.knowledge();
    for (session_id, user_id) in &sessions {
        let mut problems = Vec::new();
        match kept(world, session_id, user_id) {
            Err(problem) => problems.push(problem),
            Ok(kept) => {
                problems.extend(log::problems(&kept));
                problems.extend(isolation(&kept));
                problems.extend(ending::problems(
                    world,
                    session_id,
                    knowledge.get(session_id),
                ));
                if let Some(known) = knowledge.get(session_id) {
                    problems.extend(told(&kept, known));
                }
            }
        }
        for problem in problems {
            world.history.violation(session_id.as_str(), &problem);
        }
    }
    for problem in [costs(world, &knowledge), effects(world)].concat() {
        world.history.violation("world", &problem);
    }
}

fn kept(world: &World, session_id: &SessionId, user_id: &UserId) -> Result<Kept, String> {
    let store = world.database.store();
    let record = store.session(user_id, session_id).now_or_never();
    let Some(Ok(Some(record))) = record else {
        return Err(format!("the row cannot be read: {record:?}"));
    };
    let events = store.read(user_id, session_id, Seq::ZERO, u32::MAX);
    match events.now_or_never() {
        Some(Ok(events)) => Ok(Kept { record, events }),
        other => Err(format!("the log cannot be read: {other:?}")),
    }
}

/// What the clients know is in the log, once, as they were told.
fn told(kept: &Kept, known: &Knowledge) -> Vec<String> {
    let mut problems = Vec::new();
    for message in &known.acknowledged {
        let is_it = |event: &&Event| match &event.body {
            EventBody::UserMessage(said) => {
                let id = said.id.as_ref().map(|id| id.as_str().to_owned());
                *said.text == *message.text && id == message.id
            }
            _ => false,
        };
        let count = kept.events.iter().filter(is_it).count();
        if count != 1 {
            problems.push(format!(
                "{message:?} was acknowledged, and is there {count} times"
            ));
        }
    }
    let frames: BTreeMap<u64, String> = kept
        .events
        .iter()
        .map(|event| (event.seq.0, ServerFrame::Event(event.clone()).to_json()))
        .collect();
    for (tab, events) in &known.views {
        let differs = events
            .iter()
            .find(|(seq, event)| frames.get(seq) != Some(event));
        if let Some((seq, event)) = differs {
            let log = frames.get(seq);
            problems.push(format!("{tab} was told {event}, but the log has {log:?}"));
        }
    }
    problems
}

/// Nothing of another session is in the log or in the summary.
fn isolation(kept: &Kept) -> Vec<String> {
    let said = |event: &Event| ServerFrame::Event(event.clone()).to_json();
    let mut texts: Vec<String> = kept.events.iter().map(said).collect();
    texts.extend(kept.record.summary.clone());
    let canaries = canary::all(&texts.join("\n"));
    if canaries.len() > 1 {
        return vec![format!("texts of several sessions are in it: {canaries:?}")];
    }
    Vec::new()
}

/// The model is not asked more often than the limits allow.
fn costs(world: &World, knowledge: &BTreeMap<SessionId, Knowledge>) -> Vec<String> {
    let config = server::settings();
    let tries = u32::from(config.generation.retries_max) + 1;
    let mut problems = Vec::new();
    let sent = knowledge.values().flat_map(|known| &known.sent);
    let sent: BTreeMap<_, _> = sent
        .map(|(message, count)| (message.text.as_str(), *count))
        .collect();
    for (text, asked) in &world.model.turns() {
        let steps = u32::from(config.turn.tool_calls_max) + 1;
        let allowed = sent.get(text.as_str()).map(|count| count * tries * steps);
        if allowed.is_some_and(|allowed| *asked > allowed) {
            problems.push(format!("the model was asked {asked} times for {text:?}"));
        }
    }
    let attempts_max = u32::try_from(config.jobs.retry_delays.len() + 1).unwrap_or(u32::MAX);
    let (endings, attempts) = world
        .database
        .ledger(|ledger| (ledger.endings.clone(), ledger.attempts.clone()));
    let attempts: u32 = attempts.values().sum();
    let asked: u32 = world.model.summaries().values().sum();
    let endings = u32::try_from(endings.len()).unwrap_or(u32::MAX);
    if attempts > endings * attempts_max.saturating_add(1) || asked > attempts * tries {
        problems.push(format!(
            "{endings} endings led to {attempts} attempts and {asked} summaries"
        ));
    }
    problems
}

/// What can take effect once has done so once.
fn effects(world: &World) -> Vec<String> {
    let uses = world.look.uses();
    let repeated = uses.iter().filter(|(_, count)| **count > 1);
    let mut problems: Vec<_> = repeated
        .map(|(call, count)| format!("the tool was used {count} times for {call:?}"))
        .collect();
    let applied = world.database.ledger(|ledger| ledger.applied.clone());
    for (job, attempts) in applied {
        if attempts.len() > 1 {
            problems.push(format!(
                "job {job} was applied by several attempts: {attempts:?}"
            ));
        }
    }
    problems
}
