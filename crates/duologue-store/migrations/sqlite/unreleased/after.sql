-- Copies the rows of the tables that before.sql has set aside, and drops those.
insert into sessions (
    session_id, user_id, status, start_time, end_time, duration_seconds, summary, summary_status, end_reason,
    agent, metadata, last_seq, epoch, owner, lease_until
)
select session_id, user_id, status, start_time, end_time, duration_seconds, summary, summary_status, end_reason,
    agent, metadata, last_seq, epoch, owner, lease_until
from unreleased_sessions;

insert into session_events (id, session_id, seq, epoch, event_type, payload, occurred_at)
select id, session_id, seq, epoch, event_type, payload, occurred_at
from unreleased_session_events order by id;

insert into session_drafts (session_id, turn_id, text, saved_at)
select session_id, turn_id, text, saved_at from unreleased_session_drafts;

insert into session_jobs (
    id, session_id, user_id, last_seq, attempt, worker, due_at, outcome, finished_at, last_error
)
select id, session_id, user_id, last_seq, attempt, worker, due_at, outcome, finished_at, last_error
from unreleased_session_jobs order by id;

drop table unreleased_session_jobs;
drop table unreleased_session_drafts;
drop table unreleased_session_events;
drop table unreleased_sessions;
