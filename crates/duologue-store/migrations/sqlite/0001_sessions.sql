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
