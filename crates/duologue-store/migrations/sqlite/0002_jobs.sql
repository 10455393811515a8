-- Work that outlives its session. So far there is one kind: make the session's summary.
create table session_jobs (
    id          integer primary key,
    session_id  text    not null references sessions (session_id) on delete cascade,
    user_id     text    not null,
    -- The `session_ended` that it is about. If the log has gone on since, the result is dropped.
    last_seq    integer not null,
    -- Raised by every claim, before the work: a job that kills its worker runs out of attempts too.
    attempt     integer not null default 0,
    -- Who has it; null when nobody does. Together with the attempt it fences the result.
    worker      text,
    -- When it may be claimed next: at once, after a delay, or when its worker's lease lapses.
    due_at      text    not null,
    -- Null while the job is open.
    outcome     text    check (outcome in ('applied', 'superseded')),
    finished_at text,
    -- Why the last attempt failed, for operators.
    last_error  text,

    -- One job per ending.
    unique (session_id, last_seq)
) strict;

create index session_jobs_due on session_jobs (due_at, id) where outcome is null;
