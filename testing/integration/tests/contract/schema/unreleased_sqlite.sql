-- The tables of a file from before the first release: seven migrations, each recorded.
create table duologue_migrations (
    version bigint primary key, description text not null,
    installed_on timestamp not null default current_timestamp, success boolean not null,
    checksum blob not null, execution_time bigint not null
);
insert into duologue_migrations (version, description, success, checksum, execution_time) values
    (0, 'former_layouts', true, x'00', 0),
    (1, 'sessions', true, x'00', 0),
    (2, 'jobs', true, x'00', 0),
    (3, 'former_rows', true, x'00', 0),
    (4, 'renew_holds', true, x'00', 0),
    (5, 'operators', true, x'00', 0),
    (6, 'tokens', true, x'00', 0);

-- 0000_former_layouts
-- Nothing to do here: the tables of this server's predecessors are in Postgres databases.
-- 0001_sessions
-- Sessions, their logs, and the answers that are forming.
--
-- Times are RFC 3339 text in UTC with six decimals, always of one length: they sort as text, and
-- whoever opens this file with a viewer can read them. Leases are set and compared by SQLite's own
-- clock, which ticks in milliseconds.

-- One row per conversation.
create table sessions (
    session_id       text    not null primary key,
    -- Bound by the first claim; nobody else ever sees the session.
    user_id          text    not null,
    -- active -> ended -> completed, and back to active when the session is reopened.
    status           text    not null default 'active'
                             check (status in ('active', 'ended', 'completed')),
    start_time       text    not null,
    end_time         text,
    -- From start to end, to the millisecond; pauses count.
    duration_seconds real,
    -- Of the last ending; kept while a reopened session is active.
    summary          text,
    -- Null while the session is active.
    summary_status   text    check (summary_status in ('pending', 'done', 'failed')),
    end_reason       text,
    -- The configuration that answers.
    agent            text    not null,
    -- For the application's own use; the server never reads it.
    metadata         text    not null default '{}' check (json_type(metadata) = 'object'),
    -- Length of the log. An append says where it believes the end to be, and must be right.
    last_seq         integer not null default 0 check (last_seq >= 0),
    -- Raised by every claim. A write under an older one is refused.
    epoch            integer not null default 1,
    -- The server that holds the session; null when it was released or has ended.
    owner            text,
    -- When others may take it over.
    lease_until      text    not null
) strict;

-- For renewing what a server holds, and for finding what has lapsed: few sessions are active.
create index sessions_active on sessions (owner) where status = 'active';

-- The log of everything that happened in a session. Rows are inserted, and never changed.
create table session_events (
    -- Only names the row. The order is `seq`.
    id          integer primary key,
    session_id  text    not null references sessions (session_id) on delete cascade,
    -- Position in the log: 1, 2, 3, and so on without gaps.
    seq         integer not null check (seq > 0),
    -- Of the claim that wrote it. Tells a repeated append from another writer's.
    epoch       integer not null,
    event_type  text    not null,
    -- A JSON object.
    payload     text    not null,
    -- By the clock of the server that wrote it; never earlier than the event before.
    occurred_at text    not null,

    unique (session_id, seq)
) strict;

-- The text of an answer that is forming, for whoever takes the session over.
create table session_drafts (
    session_id text not null primary key references sessions (session_id) on delete cascade,
    turn_id    text not null,
    text       text not null,
    saved_at   text not null
) strict;
-- 0002_jobs
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
-- 0003_former_rows
-- Nothing to do here: the tables of this server's predecessors are in Postgres databases.
-- 0004_renew_holds
-- Nothing to do here: the server itself says what is renewed.
-- 0005_operators
-- Nothing to do here: what operators ask of a file is asked by the program itself.
-- 0006_tokens
-- What a user has used, for the limits of a day. Few events are the end of an answer, and of those only
-- the latest are asked for.
create index session_events_answers on session_events (session_id, occurred_at)
    where event_type = 'assistant_message';

create index sessions_user on sessions (user_id, start_time);

insert into sessions (session_id, user_id, status, start_time, agent, last_seq, epoch, owner, lease_until,
    end_time, duration_seconds, end_reason, summary_status)
values
    ('open', 'alice', 'active', '1970-01-01T00:00:00.000000Z', 'guide', 2, 3, 'gone',
        '1970-01-01T00:00:00.000000Z', null, null, null, null),
    ('over', 'alice', 'ended', '1970-01-01T00:00:00.000000Z', 'guide', 2, 1, null,
        '1970-01-01T00:00:00.000000Z', '1970-01-01T00:01:00.000000Z', 60.0, 'closed', 'pending');
insert into session_events (id, session_id, seq, epoch, event_type, payload, occurred_at) values
    (1, 'open', 1, 3, 'session_started',
        '{"session_id":"open","user_id":"alice","agent":"guide"}', '1970-01-01T00:00:00.000000Z'),
    (2, 'open', 2, 3, 'client_connected', '{"connection":1}', '1970-01-01T00:00:00.000000Z'),
    (3, 'over', 1, 1, 'session_started',
        '{"session_id":"over","user_id":"alice","agent":"guide"}', '1970-01-01T00:00:00.000000Z'),
    (7, 'over', 2, 1, 'session_ended', '{"reason":"closed"}', '1970-01-01T00:01:00.000000Z');
insert into session_drafts values ('open', 'turn-1', 'so far', '1970-01-01T00:00:00.000000Z');
insert into session_jobs (id, session_id, user_id, last_seq, due_at)
values (4, 'over', 'alice', 2, '1970-01-01T00:01:00.000000Z');
