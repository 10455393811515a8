//! What holds for endings: one at a time, each with its job, and the session's row says the same.

use duologue_protocol::{Event, EventBody, Seq, SessionSummarized, SummaryStatus};

use super::{findings::Findings, invariant::Invariant, snapshot::Entry};
use crate::store::{
    JobEnd, SessionRecord, SessionStatus,
    normalize::Ending,
    operators::{JobRecord, StoredSession},
};

/// A session ends once, until it is claimed again; the first reader after that says that it is
/// reopened. It is summarised directly after an ending, or after a failure that is retried.
pub(super) fn are_single(head: &StoredSession, log: &[Entry<'_>], findings: &mut Findings<'_>) {
    let broken = Invariant::EndedOnce;
    for (before, next) in neighbours(log) {
        let seq = next.event.seq;
        let is_over = before.is_some_and(|before| is_over(before.event));
        match &next.event.body {
            EventBody::SessionSummarized(_) => {
                if !before.is_some_and(|before| may_be_summed_up(before.event)) {
                    findings.add(
                        broken,
                        format!("event {seq} summarises a session that was not waiting for it"),
                    );
                }
                continue;
            }
            EventBody::ClientConnected(connected) if connected.reopened != is_over => {
                let says = if is_over { "does not say" } else { "says" };
                findings.add(
                    broken,
                    format!("event {seq} {says} that it reopens the session"),
                );
            }
            EventBody::ClientConnected(_) | EventBody::SessionEnded(_) => {}
            // A session that no reader has reopened may only end again, if the client that caused the claim has left.
            _ if is_over => {
                findings.add(broken, format!("event {seq} follows the session's end"));
            }
            _ => {}
        }
        if let Some(before) = before
            && is_over
            && next.epoch <= before.epoch
        {
            findings.add(
                broken,
                format!("event {seq} was written under the epoch that had ended before it"),
            );
        }
    }
    if let Some(last) = log.last()
        && is_over(last.event)
        && head.record.status == SessionStatus::Active
        && head.epoch <= last.epoch
    {
        findings.add(
            broken,
            "it is active, and nobody has claimed it since it ended",
        );
    }
}

/// Each ending has one job, whose outcome agrees with the log; and no job is without an ending.
pub(super) fn have_their_jobs(
    head: &StoredSession,
    log: &[Entry<'_>],
    findings: &mut Findings<'_>,
) {
    let broken = Invariant::JobPerEnding;
    for job in &head.jobs {
        if job.user_id != head.record.user_id {
            findings.add(broken, format!("job {} names another user", job.id));
        }
        let is_about = event_at(log, job.last_seq);
        if !is_about.is_some_and(may_be_summed_up) {
            findings.add(
                broken,
                format!(
                    "job {} is about event {}, which is no ending",
                    job.id, job.last_seq
                ),
            );
            continue;
        }
        let result = event_at(log, job.last_seq.next());
        let is_applied =
            result.is_some_and(|event| matches!(event.body, EventBody::SessionSummarized(_)));
        let says = match job.outcome {
            Some(JobEnd::Applied) => "applied",
            Some(JobEnd::Superseded) => "superseded",
            None => "open",
        };
        if is_applied != (job.outcome == Some(JobEnd::Applied)) {
            let found = if is_applied { "there" } else { "not there" };
            findings.add(
                broken,
                format!("job {} is {says}, and its result is {found}", job.id),
            );
        }
    }
    for (index, entry) in log.iter().enumerate() {
        let seq = entry.event.seq;
        let jobs = jobs_about(head, seq).count();
        if jobs > 1 {
            findings.add(broken, format!("{jobs} jobs are about event {seq}"));
        }
        if jobs == 0
            && matches!(entry.event.body, EventBody::SessionEnded(_))
            && !is_former(head, log, index)
        {
            findings.add(broken, format!("the ending of event {seq} has no job"));
        }
    }
}

/// The row is what the log and the jobs make of it.
pub(super) fn make_the_row(head: &StoredSession, log: &[Entry<'_>], findings: &mut Findings<'_>) {
    let broken = Invariant::RowIsFold;
    let record = &head.record;
    let last_seq = log.last().map_or(Seq::ZERO, |last| last.event.seq);
    if record.last_seq != last_seq {
        findings.add(
            broken,
            format!(
                "its last event is {last_seq}, but the row says {}",
                record.last_seq
            ),
        );
    }
    begins_with_its_names(record, log, findings);
    let mut expect = |what: &str, leases: bool| {
        if !leases {
            findings.add(broken, format!("{what} is not what the log says"));
        }
    };
    expect(
        "the summary",
        record.summary.as_deref() == last_summary(log),
    );
    if record.status == SessionStatus::Active {
        expect("the end time", record.end_time.is_none());
        expect("the duration", record.duration_seconds.is_none());
        expect("the reason", record.end_reason.is_none());
        expect("the summary's status", record.summary_status.is_none());
        return;
    }
    expect("the owner", head.owner.is_none());
    let (status, summary_status) = standing(head, log);
    expect("the status", record.status == status);
    expect(
        "the summary's status",
        record.summary_status == summary_status,
    );
    let ended_at = log
        .iter()
        .rposition(|entry| matches!(entry.event.body, EventBody::SessionEnded(_)));
    let Some(index) = ended_at else {
        return;
    };
    let ending = Ending::of(std::slice::from_ref(log[index].event));
    expect("the reason", record.end_reason == Some(ending.reason));
    if !is_former(head, log, index) {
        expect("the end time", record.end_time == Some(ending.time));
        let duration = ending.duration_seconds(record.start_time);
        let stored = record.duration_seconds.unwrap_or(f64::NAN);
        // Half a millisecond: databases round it each in their own way.
        expect("the duration", (stored - duration).abs() < 0.000_6);
    }
}

/// Every log begins by naming its session and user.
fn begins_with_its_names(record: &SessionRecord, log: &[Entry<'_>], findings: &mut Findings<'_>) {
    for (index, entry) in log.iter().enumerate() {
        let names_it = match &entry.event.body {
            EventBody::SessionStarted(started) => {
                started.session_id == record.session_id && started.user_id == record.user_id
            }
            _ => false,
        };
        let is_start = matches!(entry.event.body, EventBody::SessionStarted(_));
        let seq = entry.event.seq;
        match index {
            0 if !is_start => findings.add(
                Invariant::RowIsFold,
                format!("the log begins with `{}`", entry.event.body.event_type()),
            ),
            0 if !names_it => findings.add(
                Invariant::RowIsFold,
                "the log begins with another session or user than the row names",
            ),
            1.. if is_start => findings.add(
                Invariant::RowIsFold,
                format!("the session starts again at event {seq}"),
            ),
            _ => {}
        }
    }
}

/// Status and summary status of a session that has ended.
fn standing(head: &StoredSession, log: &[Entry<'_>]) -> (SessionStatus, Option<SummaryStatus>) {
    let Some(last) = log.last() else {
        return (SessionStatus::Active, None);
    };
    let is_waited_for = jobs_about(head, last.event.seq).any(|job| job.outcome.is_none());
    match &last.event.body {
        EventBody::SessionEnded(_) => (SessionStatus::Ended, Some(SummaryStatus::Pending)),
        EventBody::SessionSummarized(_) if is_waited_for => {
            (SessionStatus::Ended, Some(SummaryStatus::Pending))
        }
        EventBody::SessionSummarized(result) => (SessionStatus::Completed, Some(result.status)),
        _ => (SessionStatus::Active, None),
    }
}

fn last_summary<'a>(log: &[Entry<'a>]) -> Option<&'a str> {
    log.iter().rev().find_map(|entry| match &entry.event.body {
        EventBody::SessionSummarized(result) => Some(result.summary.as_deref()),
        _ => None,
    })?
}

/// Whether an ending was copied from tables of this server's predecessors: it had its summary, or
/// never will, and there was no job, and the row kept the times that it had there.
fn is_former(head: &StoredSession, log: &[Entry<'_>], index: usize) -> bool {
    let before = &log[..=index];
    let is_summed_up = log
        .get(index + 1)
        .is_some_and(|next| matches!(next.event.body, EventBody::SessionSummarized(_)));
    is_summed_up
        && jobs_about(head, log[index].event.seq).next().is_none()
        && before.iter().all(|entry| entry.epoch == 1)
        && !before
            .iter()
            .any(|entry| matches!(entry.event.body, EventBody::ClientConnected(_)))
}

fn is_over(event: &Event) -> bool {
    matches!(
        event.body,
        EventBody::SessionEnded(_) | EventBody::SessionSummarized(_)
    )
}

/// Whether a job may be about it.
fn may_be_summed_up(event: &Event) -> bool {
    matches!(
        event.body,
        EventBody::SessionEnded(_)
            | EventBody::SessionSummarized(SessionSummarized {
                status: SummaryStatus::Failed,
                ..
            })
    )
}

fn jobs_about(head: &StoredSession, seq: Seq) -> impl Iterator<Item = &JobRecord> {
    head.jobs.iter().filter(move |job| job.last_seq == seq)
}

fn event_at<'a>(log: &[Entry<'a>], seq: Seq) -> Option<&'a Event> {
    let index = log
        .binary_search_by_key(&seq, |entry| entry.event.seq)
        .ok()?;
    Some(log[index].event)
}

fn neighbours<'a, 'e>(
    log: &'a [Entry<'e>],
) -> impl Iterator<Item = (Option<&'a Entry<'e>>, &'a Entry<'e>)> {
    let before = std::iter::once(None).chain(log.iter().map(Some));
    before.zip(log)
}
