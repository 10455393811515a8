-- The whole schema, version 1: sessions, their logs, drafts and jobs. Later changes are migrations of
-- their own.
--
-- Times are RFC 3339 text in UTC with six decimals, always of one length: they sort as text, and a
-- viewer shows them legibly. Leases are set and compared by SQLite's own clock, which ticks in
-- milliseconds.

-- One row per conversation.
create table sessions (
    session_id       text    not null primary key,
    -- Set by the first claim; no other user ever sees the session.
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
    -- Length of the log. An append names the end of the log that it expects, and fails if it is another.
    last_seq         integer not null default 0 check (last_seq >= 0),
    -- Raised by every claim. A write under an older one is refused.
    epoch            integer not null default 1,
    -- The server that holds the lease; null when it was released or the session has ended. A write by
    -- another server is refused, even under the current epoch.
    owner            text,
    -- When the session may be taken over.
    lease_until      text    not null,
    -- The tenant that the user belongs to; empty where there is only one.
    tenant           text    not null default '',
    -- Random, made with the session: names this history of it. A restore from a backup makes a new one,
    -- so that a client cannot resume from a position in a history that is gone.
    log_id           text    not null default (lower(hex(randomblob(16))))
) strict;

-- For renewing a server's leases, and for finding those that have expired: few sessions are active.
create index sessions_active on sessions (owner) where status = 'active';

create index sessions_user on sessions (user_id, start_time);

-- The log of everything that happened in a session. Rows are inserted, and never changed.
--
-- Ids are never used again (autoincrement), and the one writer assigns them in the order in which it
-- commits: so they are the order in which events of all sessions can be read without gaps. Postgres needs
-- the transaction's number for that (`txid`); here it would say nothing more.
create table session_events (
    id          integer primary key autoincrement,
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

-- For the tokens that a user has used since a moment: few events complete an answer.
create index session_events_answers on session_events (session_id, occurred_at)
    where event_type = 'assistant_message';

-- The text of an answer in progress, for the server that takes the session over.
create table session_drafts (
    session_id text not null primary key references sessions (session_id) on delete cascade,
    turn_id    text not null,
    text       text not null,
    saved_at   text not null
) strict;

-- Work that outlives its session. So far there is one kind: make the session's summary.
create table session_jobs (
    -- Never used again: a worker may still name a job that is gone.
    id          integer primary key autoincrement,
    session_id  text    not null references sessions (session_id) on delete cascade,
    user_id     text    not null,
    -- The `session_ended` that it is about, or the failed `session_summarized` that an operator has tried
    -- again. If the log has gone on since, the result is dropped.
    last_seq    integer not null,
    -- Raised by every claim, before the work: a job that kills its worker runs out of attempts too.
    attempt     integer not null default 0,
    -- How many of these claims do not count as attempts, since their server stopped.
    uncounted   integer not null default 0,
    -- Who has it; null when nobody does. Together with the attempt it fences the result.
    worker      text,
    -- When it may be claimed next: at once, after a delay, or when its worker's lease expires.
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

-- Facts about this installation. One row.
create table duologue_installation (
    one_row    integer not null primary key default 1 check (one_row = 1),
    -- Names the installation. Never changes.
    id         text    not null,
    -- Secret, random: for signatures and keyed hashes. SQLite seeds its generator from the system's.
    key        blob    not null default (randomblob(32)) check (length(key) = 32),
    -- Raised by a restore from a backup: positions from before are void.
    generation integer not null default 1
) strict;

-- A random UUID, version 4.
insert into duologue_installation (id)
select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-4' || substr(h, 14, 3) || '-'
    || substr('89ab', 1 + abs(random() % 4), 1) || substr(h, 18, 3) || '-' || substr(h, 21, 12)
from (select lower(hex(randomblob(16))) as h);
