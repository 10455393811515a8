//! What must be true at the end: the logs, the rows, and what the clients received, together.

mod ending;
mod punctuality;

use std::collections::{BTreeMap, BTreeSet};

use duologue_engine::{
    store::{SessionRecord, SessionStatus, StoreError, operators::OperatorStore},
    verify,
};
use duologue_observer::canary;
use duologue_protocol::{Event, EventBody, ServerFrame, SessionId};

use crate::{client::Knowledge, server, world::World};

/// One session as it is kept.
struct SessionSnapshot {
    session_id: SessionId,
    record: SessionRecord,
    events: Vec<Event>,
    /// What the checker that operators have says of it.
    violations: Vec<verify::Violation>,
}

/// Checks everything, and notes what is wrong in the trace.
pub(crate) fn judge(world: &World) {
    let sessions = match kept(world) {
        Ok(sessions) => sessions,
        Err(error) => {
            let what = format!("what is kept cannot be read: {error:?}");
            return world.trace.violation("database", &what);
        }
    };
    let knowledge = world.clients.knowledge();
    for kept in &sessions {
        let known = knowledge.get(&kept.session_id);
        let mut problems: Vec<_> = kept.violations.iter().map(ToString::to_string).collect();
        problems.extend(rest(kept));
        problems.extend(isolation(kept));
        problems.extend(ending::problems(world, &kept.session_id, known));
        problems.extend(punctuality::problems(world, known));
        problems.extend(known.into_iter().flat_map(|known| received(kept, known)));
        for problem in problems {
            world.trace.violation(kept.session_id.as_str(), &problem);
        }
    }
    let is_kept =
        |session_id: &SessionId| sessions.iter().any(|kept| kept.session_id == *session_id);
    for session_id in knowledge.keys().filter(|session_id| !is_kept(session_id)) {
        world
            .trace
            .violation(session_id.as_str(), "it is not kept at all");
    }
    for problem in [costs(world, &knowledge), effects(world)].concat() {
        world.trace.violation("world", &problem);
    }
}

fn kept(world: &World) -> Result<Vec<SessionSnapshot>, StoreError> {
    world.database.inspect(async |store| {
        let mut sessions = Vec::new();
        for session_id in store.session_ids(None, u32::MAX).await? {
            let violations = verify::check(store, &session_id).await?;
            let Some(verify::SessionSnapshot { head, log }) =
                verify::read(store, &session_id).await?
            else {
                continue;
            };
            sessions.push(SessionSnapshot {
                session_id,
                record: head.record,
                // An event that cannot be read is among the violations.
                events: log.into_iter().filter_map(|row| row.event.ok()).collect(),
                violations,
            });
        }
        Ok(sessions)
    })
}

/// All has come to its end, and no message is there twice. No two that clients send have the same
/// text, so this holds for those without an id as well.
fn rest(kept: &SessionSnapshot) -> Vec<String> {
    let mut problems = Vec::new();
    if kept.record.status != SessionStatus::Completed {
        problems.push(format!("it is not completed: {:?}", kept.record));
    }
    let mut seen = BTreeSet::new();
    for event in &kept.events {
        if let EventBody::UserMessage(said) = &event.body
            && !seen.insert(&said.text)
        {
            problems.push(format!("{:?} is there twice", said.text));
        }
    }
    problems
}

/// What the clients received is in the log, once, as they received it.
fn received(kept: &SessionSnapshot, known: &Knowledge) -> Vec<String> {
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
            problems.push(format!("{tab} received {event}, but the log has {log:?}"));
        }
    }
    problems
}

/// Nothing of another session is in the log or in the summary.
fn isolation(kept: &SessionSnapshot) -> Vec<String> {
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
    let (endings, attempts, uncounted) = world.database.ledger(|ledger| {
        (
            ledger.endings.clone(),
            ledger.attempts.clone(),
            ledger.uncounted.len(),
        )
    });
    let uncounted = u32::try_from(uncounted).unwrap_or(u32::MAX);
    let attempts: u32 = attempts.values().sum();
    let asked: u32 = world.model.summaries().values().sum();
    let endings = u32::try_from(endings.len()).unwrap_or(u32::MAX);
    let attempts_allowed = endings * attempts_max.saturating_add(1) + uncounted;
    if attempts > attempts_allowed || asked > attempts * tries {
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
