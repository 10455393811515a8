-- Duologue's tables and functions in Postgres: paste all of it into Supabase's SQL editor and run it.
--
-- It may be run again at any time: what is in place is left alone. It is one transaction: if anything
-- fails, nothing has changed. A database that was made before the first release is brought over, and so
-- are tables `sessions` and `session_events` of this server's predecessors; docs/operations.md says what
-- becomes of them. `duologue migrate` does the same over a connection, and either may follow the other.
--
-- Written by `cargo xtask schema` from crates/duologue-store/migrations/postgres; edits here are lost.

begin;

-- ==== The only line to change: the schema. Tell the server with SUPABASE_SCHEMA. ====================
set local duologue.schema = 'public';
-- ====================================================================================================

-- Not behind a query that runs for hours, while all others queue up behind us.
set local lock_timeout = '10s';
-- One migration at a time.
select pg_advisory_xact_lock(hashtext('duologue_migrations'));

do $$
declare
    chosen constant text := current_setting('duologue.schema');
begin
    -- Asked first, since only some may create schemas.
    if to_regnamespace(quote_ident(chosen)) is null then
        execute format('create schema %I', chosen);
    end if;
    perform set_config('search_path', quote_ident(chosen) || ', pg_temp', true);
    if to_regclass('duologue_migrations') is not null and not (
        select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass('duologue_migrations')
    ) then
        raise exception 'the tables in schema % belong to another role than %', chosen, current_user
            using hint = 'Nothing was changed. Run this as the role that has made them.';
    end if;
end $$;

create table if not exists duologue_migrations (
    version        bigint      primary key,
    description    text        not null,
    installed_on   timestamptz not null default now(),
    success        boolean     not null,
    checksum       bytea       not null,
    execution_time bigint      not null
);

-- Runs a script that brings other tables over, if `find.sql` has found such.
create or replace function pg_temp.duologue_upgrade(kind text, script text)
returns text language plpgsql as $$
begin
    if current_setting('duologue.found') <> kind then
        return kind || ': not found';
    end if;
    execute replace(script, e'\r', '');
    return kind || ': brought over';
end $$;

-- Applies a migration, unless it has been.
create or replace function pg_temp.duologue_apply(its_version bigint, its_name text, given text)
returns text language plpgsql as $$
declare
    -- Editors change line breaks; the checksum must not depend on that.
    script   constant text := replace(given, e'\r', '');
    its_sum  constant bytea := sha384(convert_to(script, 'UTF8'));
    previous duologue_migrations;
begin
    select * into previous from duologue_migrations where version = its_version;
    if not found then
        execute script;
        insert into duologue_migrations (version, description, success, checksum, execution_time)
        values (its_version, its_name, true, its_sum, -1);
        return its_name || ': applied';
    end if;
    if not previous.success or previous.checksum <> its_sum then
        raise exception 'migration % (%) is not what was applied here on %',
                its_version, its_name, previous.installed_on
            using hint = 'Nothing was changed. Take the schema.sql of the release that you run.';
    end if;
    return its_name || ': in place';
end $$;

-- Finds out what is in the schema, before anything is created or changed: `duologue.found` becomes
-- `ours` (migrations follow the numbers that are applied), `nothing`, `unreleased` (the seven migrations
-- from before the first release) or `predecessors` (tables of this server's predecessors). Anything else
-- is refused.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

do $$
declare
    here       constant regnamespace := quote_ident(current_schema())::regnamespace;
    -- The seven, as `duologue migrate` and schema.sql recorded them.
    unreleased constant text := '0 former_layouts, 1 sessions, 2 jobs, 3 former_rows, 4 renew_holds, '
        '5 operators, 6 tokens';
    applied    text;
    kind       text;
    tables     text;
begin
    if to_regclass('duologue_migrations') is not null then
        select string_agg(version || ' ' || description
                || case when success then '' else ' (failed)' end, ', ' order by version)
        into applied from duologue_migrations;
    end if;
    select string_agg(relname, ', ' order by relname) into tables from pg_class
    where relnamespace = here and relname in
        ('sessions', 'session_events', 'session_drafts', 'session_jobs', 'duologue_installation');

    if applied = unreleased then
        kind := 'unreleased';
    elsif applied = '1 schema' or starts_with(applied, '1 schema, ') then
        kind := 'ours';
    elsif applied is not null then
        raise exception 'schema % has tables of a Duologue that this one does not know (migrations: %)',
                here, applied
            using hint = 'Nothing was changed. Bring them up to date with the build that made them, or choose '
                'another schema.';
    elsif tables is null then
        kind := 'nothing';
    elsif tables ~ '^session(s|_events)(, sessions)?$' then
        kind := 'predecessors';
    else
        raise exception 'schema % already has tables that this script does not know: %', here, tables
            using hint = 'Nothing was changed. Choose another schema, or rename those tables.';
    end if;
    perform set_config('duologue.found', kind, true);
end $$;

select pg_temp.duologue_upgrade('unreleased', $migration$-- Alters the tables of a database that was made before the first release, by seven migrations, so that the
-- schema (0001) can complete them: columns that are new, and without the functions, which it creates again.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Each row gets an id of its own, since the default is random.
alter table sessions
    add column tenant text not null default '',
    add column log_id text not null default replace(gen_random_uuid()::text, '-', '');

-- All rows get the transaction of this upgrade; among them the order is that of their ids.
alter table session_events add column txid xid8 not null default pg_current_xact_id();

alter table session_jobs add column uncounted integer not null default 0;

do $$
declare
    the_function regprocedure;
begin
    for the_function in
        select oid from pg_proc
        where pronamespace = quote_ident(current_schema())::regnamespace and proname like 'duologue\_%'
    loop
        execute format('drop function %s', the_function);
    end loop;
end $$;

-- The numbers begin again.
delete from duologue_migrations;
$migration$);

select pg_temp.duologue_upgrade('predecessors', $migration$-- Sets aside the tables of this server's predecessors, so that the schema (0001) can be created.
--
-- Two layouts are known; both call their tables `sessions` and `session_events`, as we do. They are
-- renamed, not changed and not dropped: after.sql copies their rows, and the owner of the database drops
-- them when the copy has been checked. A new database never runs this.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

do $$
declare
    here       constant regnamespace := quote_ident(current_schema())::regnamespace;
    sessions   constant regclass := to_regclass('sessions');
    events     constant regclass := to_regclass('session_events');
    columns    text[];
    dependents text;
    belonging  record;
begin
    if sessions is null and events is null then
        return;
    end if;

    -- Is it one of theirs? Both layouts have these columns, and neither numbers its events.
    select array_agg(attname::text) into columns
    from pg_attribute where attrelid = sessions and attnum > 0 and not attisdropped;
    if sessions is null
        or not columns @> '{session_id,user_id,start_time,end_time,summary}' or columns && '{epoch,last_seq}'
    then
        raise exception 'schema % already has a table % that this script does not know',
                here, coalesce(sessions, events)
            using hint = 'Nothing was changed. Choose another schema, or rename that table.';
    end if;
    select array_agg(attname::text) into columns
    from pg_attribute where attrelid = events and attnum > 0 and not attisdropped;
    if events is not null and not (
        columns @> '{id,session_id,event_type}' and columns && '{occurred_at,ts}'
        and not columns && '{seq,epoch}'
    ) then
        raise exception 'schema % already has a table session_events that this script does not know', here
            using hint = 'Nothing was changed. Choose another schema, or rename that table.';
    end if;

    -- What refers to these tables would go on to refer to the ones set aside, and nobody would notice.
    select string_agg(dependent, ', ' order by dependent) into dependents from (
        select case r.relkind when 'm' then 'materialized view ' else 'view ' end || rule.ev_class::regclass
        from pg_depend as d
        join pg_rewrite as rule on d.classid = 'pg_rewrite'::regclass and rule.oid = d.objid
        join pg_class as r on r.oid = rule.ev_class
        where d.refclassid = 'pg_class'::regclass and d.refobjid in (sessions, events)
            and rule.ev_class not in (sessions, coalesce(events, sessions))
        union
        select format('foreign key %I of table %s', conname, conrelid::regclass)
        from pg_constraint
        where contype = 'f' and confrelid in (sessions, events)
            and conrelid not in (sessions, coalesce(events, sessions))
        union
        select format('policy %I of table %s', polname, polrelid::regclass)
        from pg_depend as d
        join pg_policy as p on d.classid = 'pg_policy'::regclass and p.oid = d.objid
        where d.refclassid = 'pg_class'::regclass and d.refobjid in (sessions, events)
            and p.polrelid not in (sessions, coalesce(events, sessions))
        union
        select format('table %s, which inherits', inhrelid::regclass)
        from pg_inherits where inhparent in (sessions, events)
    ) as found (dependent);
    if dependents is not null then
        raise exception 'these refer to the present tables, and must be dropped first: %', dependents
            using hint = 'Nothing was changed. Create them again afterwards; session_id is text then.';
    end if;
    if to_regclass('former_sessions') is not null or to_regclass('former_session_events') is not null then
        raise exception 'tables from an earlier upgrade are still there: former_sessions, former_session_events'
            using hint = 'Nothing was changed. Rename or drop them first.';
    end if;

    -- Other writers must have finished, and must not begin again.
    execute format('lock table %s in access exclusive mode', sessions);
    -- Names of indexes and sequences share the schema with ours.
    for belonging in
        select i.indexrelid::regclass as name, 'index' as kind, c.relname
        from pg_index as i join pg_class as c on c.oid = i.indexrelid
        where i.indrelid in (sessions, events)
        union all
        select c.oid::regclass, 'sequence', c.relname
        from pg_depend as d join pg_class as c on c.oid = d.objid and c.relkind = 'S'
        where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass
            and d.refobjid in (sessions, events) and d.deptype in ('a', 'i')
            and c.relnamespace = here
    loop
        execute format('alter %s %s rename to %I',
            belonging.kind, belonging.name, left('former_' || belonging.relname, 63));
    end loop;
    alter table sessions rename to former_sessions;
    if events is not null then
        alter table session_events rename to former_session_events;
    end if;
end $$;
$migration$);

select pg_temp.duologue_apply(1, 'schema', $migration$-- The whole schema, version 1: sessions, their logs, drafts and jobs, and the functions that servers call.
-- Later changes are migrations of their own.
--
-- The server uses these tables through functions only: one call, one statement, one transaction.
-- So the same schema serves a direct connection, a transaction pooler, and PostgREST. Functions run
-- with their owner's rights and nobody else has any rights on the tables; row level security is forced
-- as well, so that a grant given by mistake shows nothing.
--
-- Everything is created in the first schema of the search path, and each function keeps that path, so
-- that no caller can substitute another table.
--
-- Tables and indexes are created `if not exists`, since those of a database that was made before the
-- first release are altered in place (unreleased/before.sql) and already exist. find.sql refuses any
-- other database that has tables with these names.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table if not exists sessions (
    session_id       text             not null primary key,
    user_id          text             not null,
    status           text             not null default 'active'
                                      check (status in ('active', 'ended', 'completed')),
    start_time       timestamptz      not null,
    end_time         timestamptz,
    duration_seconds double precision,
    summary          text,
    summary_status   text             check (summary_status in ('pending', 'done', 'failed')),
    end_reason       text,
    agent            text             not null,
    metadata         jsonb            not null default '{}'
                                      check (jsonb_typeof(metadata) = 'object'),
    last_seq         bigint           not null default 0 check (last_seq >= 0),
    epoch            bigint           not null default 1,
    owner            text,
    lease_until      timestamptz      not null,
    tenant           text             not null default '',
    log_id           text             not null default replace(gen_random_uuid()::text, '-', '')
)
-- Rows change with every append and every renewal; room on the page keeps that out of the indexes.
with (fillfactor = 80);

comment on table sessions is 'One row per conversation.';
comment on column sessions.user_id is
    'Set by the first claim; no other user ever sees the session.';
comment on column sessions.status is
    'active -> ended -> completed, and back to active when the session is reopened.';
comment on column sessions.duration_seconds is 'From start to end, to the millisecond; pauses count.';
comment on column sessions.summary is 'Of the last ending; kept while a reopened session is active.';
comment on column sessions.summary_status is 'Null while the session is active.';
comment on column sessions.agent is 'The configuration that answers.';
comment on column sessions.metadata is 'For the application''s own use; the server never reads it.';
comment on column sessions.last_seq is
    'Length of the log. An append says where it believes the end to be, and must be right.';
comment on column sessions.epoch is
    'Raised by every claim. A write under an older one is refused.';
comment on column sessions.owner is
    'The server that holds the lease; null when it was released or the session has ended. A write by '
    'another server is refused, even under the current epoch.';
comment on column sessions.lease_until is
    'When other servers may take the session over, by the clock of this database.';
comment on column sessions.tenant is
    'The tenant that the user belongs to; empty where there is only one.';
comment on column sessions.log_id is
    'Random, made with the session: names this history of it. A restore from a backup makes a new one, so '
    'that a client cannot resume from a position in a history that is gone.';

-- For renewing a server's leases, and for finding those that have expired: few sessions are active. The
-- lease itself is not in the index, since each renewal would then move the row.
create index if not exists sessions_active on sessions (owner) where status = 'active';

-- For users who list their sessions: the row level security below compares the user first.
create index if not exists sessions_user on sessions (user_id, start_time);

create table if not exists session_events (
    id          bigint      not null generated always as identity primary key,
    session_id  text        not null references sessions (session_id) on delete cascade,
    seq         bigint      not null check (seq > 0),
    epoch       bigint      not null,
    event_type  text        not null,
    payload     jsonb       not null,
    occurred_at timestamptz not null,
    txid        xid8        not null default pg_current_xact_id(),

    unique (session_id, seq)
);

-- The order in which events of all sessions can be read without gaps.
create index if not exists session_events_feed on session_events (txid, id);

comment on table session_events is
    'The log of everything that happened in a session. Rows are inserted, and never changed.';
comment on column session_events.id is 'Only names the row. The order is seq.';
comment on column session_events.seq is
    'Position in the log: 1, 2, 3, and so on without gaps.';
comment on column session_events.epoch is
    'Of the claim that wrote it. Tells a repeated append from another writer''s.';
comment on column session_events.occurred_at is
    'By the clock of the server that wrote it; never earlier than the event before.';
comment on column session_events.txid is
    'The transaction that wrote it. Ids are assigned before the commit, so a reader that remembers the '
    'highest id misses what commits later; (txid, id) below the xmin of its snapshot is complete.';

create table if not exists session_drafts (
    session_id text        not null primary key references sessions (session_id) on delete cascade,
    turn_id    text        not null,
    text       text        not null,
    saved_at   timestamptz not null
);

comment on table session_drafts is
    'The text of an answer in progress, for the server that takes the session over.';

comment on column session_drafts.turn_id is 'As the events of the log name it: turn-1, turn-2, ….';
comment on column session_drafts.saved_at is 'By the clock of this database.';

create table if not exists session_jobs (
    id          bigint      not null generated always as identity primary key,
    session_id  text        not null references sessions (session_id) on delete cascade,
    user_id     text        not null,
    last_seq    bigint      not null,
    attempt     integer     not null default 0,
    uncounted   integer     not null default 0,
    worker      text,
    due_at      timestamptz not null,
    outcome     text        check (outcome in ('applied', 'superseded')),
    finished_at timestamptz,
    last_error  text,

    unique (session_id, last_seq)
);

comment on table session_jobs is
    'Work that outlives its session. So far there is one kind: make the session''s summary.';
comment on column session_jobs.attempt is
    'Raised by every claim, before the work: a job that kills its worker runs out of attempts too.';
comment on column session_jobs.uncounted is
    'How many of these claims do not count as attempts, since their server stopped.';
comment on column session_jobs.worker is
    'Who has it; null when nobody does. Together with the attempt it fences the result.';
comment on column session_jobs.due_at is
    'When it may be claimed next: at once, after a delay, or when its worker''s lease lapses.';
comment on column session_jobs.outcome is 'Null while the job is open.';
comment on column session_jobs.last_error is 'Why the last attempt failed, for operators.';

create index if not exists session_jobs_due on session_jobs (due_at, id) where outcome is null;

comment on column session_jobs.last_seq is
    'The session_ended that it is about, or the failed session_summarized that an operator has tried '
    'again. If the log has gone on since, the result is dropped.';

-- For the tokens that a user has used since a moment: few events complete an answer.
create index if not exists session_events_answers on session_events (session_id, occurred_at)
    where event_type = 'assistant_message';

create table if not exists duologue_installation (
    one_row    boolean not null primary key default true check (one_row),
    id         uuid    not null default gen_random_uuid(),
    -- Three random UUIDs have 366 random bits.
    key        bytea   not null check (octet_length(key) = 32) default sha256(
                   uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
                   || uuid_send(gen_random_uuid())),
    generation bigint  not null default 1,
    origin     jsonb   not null default '{}'
);

comment on table duologue_installation is
    'Facts about this installation, which are the same for all of its servers. One row.';
comment on column duologue_installation.id is 'Names the installation. Never changes.';
comment on column duologue_installation.key is
    'Secret, random: for signatures and keyed hashes that all servers must agree on.';
comment on column duologue_installation.generation is
    'Raised when the database is found to be restored from a backup: positions from before are void.';
comment on column duologue_installation.origin is
    'The cluster, timeline, database and table in which these rows were last seen. If they differ, the '
    'database was restored or has failed over; see duologue_check_origin.';

comment on table duologue_migrations is
    'Which parts of this schema are in place. Kept by `duologue migrate` and by schema.sql alike.';
comment on column duologue_migrations.checksum is
    'SHA-384 of the script. One that was changed after it was applied is reported.';
comment on column duologue_migrations.execution_time is 'In nanoseconds; zero or less if not measured.';

-- Rights. Every migration ends with these functions, which may be repeated.

create function duologue_secure_table(the_table regclass) returns void
language plpgsql set search_path from current as $$
declare
    api_role text;
begin
    execute format('alter table %s enable row level security', the_table);
    execute format('alter table %s force row level security', the_table);
    -- Forced security binds the owner too, and the functions run as the owner.
    if not exists (select from pg_policy where polrelid = the_table and polname = 'duologue_owner') then
        execute format('create policy duologue_owner on %s to %I using (true) with check (true)',
            the_table, current_user);
    end if;
    execute format('revoke all on table %s from public', the_table);
    -- Supabase grants its API roles everything in advance.
    for api_role in
        select rolname from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
    loop
        execute format('revoke all on table %s from %I', the_table, api_role);
    end loop;
end $$;

-- Lets users who have signed in at Supabase read their own rows, and holders of the service key call the
-- functions. Other databases have no such roles, and nothing happens.
create function duologue_admit_api_roles() returns void
language plpgsql set search_path from current as $$
begin
    if exists (select from pg_roles where rolname = 'service_role') then
        execute format('grant usage on schema %I to service_role', current_schema());
    end if;
    if to_regprocedure('auth.uid()') is null
        or not exists (select from pg_roles where rolname = 'authenticated')
    then
        return;
    end if;
    execute format('grant usage on schema %I to authenticated', current_schema());
    grant select on sessions, session_events to authenticated;
    -- In a subquery, the user is asked for once and not for every row.
    drop policy if exists duologue_reader on sessions;
    create policy duologue_reader on sessions for select to authenticated
        using (user_id = (select auth.uid()::text));
    drop policy if exists duologue_reader on session_events;
    create policy duologue_reader on session_events for select to authenticated
        using (session_id in (
            select s.session_id from sessions as s where s.user_id = (select auth.uid()::text)
        ));
end $$;

create function duologue_secure_functions() returns void
language plpgsql set search_path from current as $$
declare
    ours     regprocedure;
    is_entry boolean;
    api_role text;
begin
    for ours, is_entry in
        select oid, prosecdef from pg_proc
        where pronamespace = quote_ident(current_schema())::regnamespace and proname like 'duologue\_%'
    loop
        execute format('revoke all on function %s from public', ours);
        for api_role in
            select rolname from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
        loop
            execute format('revoke all on function %s from %I', ours, api_role);
            -- Only servers have the service key. Browsers do not.
            if is_entry and api_role = 'service_role' then
                execute format('grant execute on function %s to %I', ours, api_role);
            end if;
        end loop;
    end loop;
end $$;

-- Helpers of the functions below. Callers may not use them, only the entries: the functions that are
-- `security definer`.

create function duologue_time(moment timestamptz) returns text
language sql stable set search_path from current as $$
    select to_char(moment at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

create function duologue_session_json(s sessions) returns jsonb
language sql stable set search_path from current as $$
    select jsonb_build_object(
        'session_id', s.session_id, 'user_id', s.user_id, 'status', s.status,
        'start_time', duologue_time(s.start_time), 'end_time', duologue_time(s.end_time),
        'duration_seconds', s.duration_seconds, 'summary', s.summary,
        'summary_status', s.summary_status, 'end_reason', s.end_reason, 'agent', s.agent,
        'metadata', s.metadata, 'last_seq', s.last_seq, 'log_id', s.log_id
    )
$$;

-- A session as the server that claimed it needs it. It counts as reopened as long as its log ends with
-- an ending, so that a claim whose answer was lost may be repeated.
create function duologue_claimed_json(s sessions) returns jsonb
language sql stable set search_path from current as $$
    select jsonb_build_object(
        'session', duologue_session_json(s), 'epoch', s.epoch, 'owner', s.owner,
        'reopened', exists (
            select from session_events as e
            where e.session_id = s.session_id and e.seq = s.last_seq
                and e.event_type in ('session_ended', 'session_summarized')
        ),
        'draft', (
            select jsonb_build_object('turn_id', d.turn_id, 'text', d.text)
            from session_drafts as d where d.session_id = s.session_id
        )
    )
$$;

-- Writes events, `[{"event_type", "payload", "occurred_at"}, …]`. The caller has made sure that
-- they come next.
create function duologue_insert_events(
    for_session text, at_epoch bigint, after_seq bigint, new_events jsonb
) returns void
language sql set search_path from current as $$
    insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
    select for_session, after_seq + position, at_epoch, event ->> 'event_type', event -> 'payload',
        (event ->> 'occurred_at')::timestamptz
    from jsonb_array_elements(new_events) with ordinality as new (event, position)
$$;

-- Whether exactly these events are stored under this epoch: then the call is a repetition.
create function duologue_has_events(
    for_session text, for_user text, at_epoch bigint, after_seq bigint, new_events jsonb
) returns boolean
language sql stable set search_path from current as $$
    select count(*) > 0 and count(*) = jsonb_array_length(new_events)
    from jsonb_array_elements(new_events) with ordinality as new (event, position)
    join session_events as e on e.session_id = for_session and e.seq = after_seq + position
    join sessions as s on s.session_id = e.session_id
    where s.user_id = for_user and e.epoch = at_epoch and e.event_type = event ->> 'event_type'
        and e.payload = event -> 'payload'
        and e.occurred_at = (event ->> 'occurred_at')::timestamptz
$$;

-- Entries: one per operation of the store. `Store` in the engine says what each must do. Time
-- comes from `clock_timestamp()`, since a transaction may wait for a lock after it began.

create function duologue_version() returns bigint
language sql stable security definer set search_path from current as $$
    select max(version) from duologue_migrations where success
$$;

create function duologue_claim(
    for_session text, for_user text, for_agent text, by_server text, lease_seconds double precision,
    started_at timestamptz
) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
    held sessions;
begin
    insert into sessions as s (session_id, user_id, start_time, agent, owner, lease_until)
    values (for_session, for_user, started_at, for_agent, by_server,
        clock_timestamp() + make_interval(secs => lease_seconds))
    on conflict (session_id) do update set
        status = 'active', end_time = null, duration_seconds = null, end_reason = null,
        summary_status = null, epoch = s.epoch + 1, owner = excluded.owner,
        lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
    where s.user_id = for_user
    returning s.* into held;
    if not found then
        return null;
    end if;
    return duologue_claimed_json(held);
end $$;

create function duologue_claim_lapsed(
    by_server text, lease_seconds double precision, grace_seconds double precision, at_most integer
) returns jsonb
language sql security definer set search_path from current as $$
    with lapsed as materialized (
        select session_id from sessions
        where status = 'active'
            and lease_until < clock_timestamp() - make_interval(secs => grace_seconds)
        order by lease_until limit at_most
        -- Sweepers of several servers share the work instead of waiting for each other.
        for update skip locked
    ), claimed as (
        update sessions as s set epoch = s.epoch + 1, owner = by_server,
            lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
        from lapsed where s.session_id = lapsed.session_id
        returning s as held
    )
    select coalesce(jsonb_agg(duologue_claimed_json(held)), '[]') from claimed
$$;

create function duologue_release(
    for_session text, for_user text, by_server text, at_epoch bigint
) returns boolean
language plpgsql security definer set search_path from current as $$
begin
    update sessions set owner = null, lease_until = clock_timestamp()
    where session_id = for_session and user_id = for_user and owner = by_server and epoch = at_epoch
        and status = 'active';
    return found;
end $$;

-- False: another writer came first.
create function duologue_append(
    for_session text, for_user text, by_server text, at_epoch bigint, after_seq bigint, new_events jsonb
) returns boolean
language plpgsql security definer set search_path from current as $$
begin
    update sessions set last_seq = after_seq + jsonb_array_length(new_events)
    where session_id = for_session and user_id = for_user and owner = by_server and epoch = at_epoch
        and status = 'active' and last_seq = after_seq;
    if not found then
        return duologue_has_events(for_session, for_user, at_epoch, after_seq, new_events);
    end if;
    perform duologue_insert_events(for_session, at_epoch, after_seq, new_events);
    if new_events @> '[{"event_type": "assistant_message"}]' then
        delete from session_drafts where session_id = for_session;
    end if;
    return true;
end $$;

-- False: another writer came first.
create function duologue_save_draft(
    for_session text, for_user text, by_server text, at_epoch bigint, of_turn text, the_text text
) returns boolean
language plpgsql security definer set search_path from current as $$
begin
    -- The lock keeps a claim from coming in between.
    perform from sessions
    where session_id = for_session and user_id = for_user and owner = by_server and epoch = at_epoch
        and status = 'active'
    for share;
    if not found then
        return false;
    end if;
    insert into session_drafts as d (session_id, turn_id, text, saved_at)
    values (for_session, of_turn, the_text, clock_timestamp())
    on conflict (session_id) do update set
        turn_id = excluded.turn_id, text = excluded.text, saved_at = excluded.saved_at;
    return true;
end $$;

create function duologue_read(
    for_user text, for_session text, after_seq bigint, at_most integer
) returns jsonb
language sql stable security definer set search_path from current as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'seq', page.seq, 'occurred_at', duologue_time(page.occurred_at),
        'event_type', page.event_type, 'payload', page.payload
    ) order by page.seq), '[]')
    from (
        select e.* from session_events as e join sessions as s on s.session_id = e.session_id
        where e.session_id = for_session and s.user_id = for_user and e.seq > after_seq
        order by e.seq limit at_most
    ) as page
$$;

create function duologue_session(for_user text, for_session text) returns jsonb
language sql stable security definer set search_path from current as $$
    select duologue_session_json(s) from sessions as s
    where s.session_id = for_session and s.user_id = for_user
$$;

-- False: another writer came first.
create function duologue_end(
    for_session text, for_user text, by_server text, at_epoch bigint, after_seq bigint, new_events jsonb
) returns boolean
language plpgsql security definer set search_path from current as $$
declare
    last_event constant jsonb := new_events -> -1;
    ended_at constant timestamptz := (last_event ->> 'occurred_at')::timestamptz;
    new_last constant bigint := after_seq + jsonb_array_length(new_events);
begin
    update sessions set
        last_seq = new_last, status = 'ended', end_time = ended_at,
        duration_seconds = round(greatest(extract(epoch from ended_at - start_time)::numeric, 0), 3),
        end_reason = last_event -> 'payload' ->> 'reason', summary_status = 'pending',
        owner = null, lease_until = clock_timestamp()
    where session_id = for_session and user_id = for_user and owner = by_server and epoch = at_epoch
        and status = 'active' and last_seq = after_seq;
    if not found then
        return duologue_has_events(for_session, for_user, at_epoch, after_seq, new_events);
    end if;
    perform duologue_insert_events(for_session, at_epoch, after_seq, new_events);
    delete from session_drafts where session_id = for_session;
    insert into session_jobs (session_id, user_id, last_seq, due_at)
    values (for_session, for_user, new_last, clock_timestamp());
    return true;
end $$;

create function duologue_claim_job(by_worker text, lease_seconds double precision) returns jsonb
language sql security definer set search_path from current as $$
    with due as materialized (
        select id from session_jobs where outcome is null and due_at <= clock_timestamp()
        order by due_at, id limit 1
        for update skip locked
    )
    update session_jobs as j set worker = by_worker, attempt = j.attempt + 1,
        due_at = clock_timestamp() + make_interval(secs => lease_seconds)
    from due where j.id = due.id
    returning jsonb_build_object(
        'id', j.id, 'session_id', j.session_id, 'user_id', j.user_id, 'last_seq', j.last_seq,
        'worker', j.worker, 'attempt', j.attempt, 'uncounted', j.uncounted
    )
$$;

-- False: another worker has it, or it is over.
create function duologue_renew_job(
    of_job bigint, by_worker text, at_attempt integer, lease_seconds double precision
) returns boolean
language plpgsql security definer set search_path from current as $$
begin
    update session_jobs
    set due_at = clock_timestamp() + make_interval(secs => lease_seconds)
    where id = of_job and worker = by_worker and attempt = at_attempt and outcome is null;
    return found;
end $$;

-- False: another worker has it, or it is over.
create function duologue_release_job(
    of_job bigint, by_worker text, at_attempt integer, delay_seconds double precision, why text,
    is_counted boolean
) returns boolean
language plpgsql security definer set search_path from current as $$
begin
    update session_jobs set
        worker = null, last_error = why,
        uncounted = uncounted + case when is_counted then 0 else 1 end,
        due_at = clock_timestamp() + make_interval(secs => delay_seconds)
    where id = of_job and worker = by_worker and attempt = at_attempt and outcome is null;
    -- Without a worker it was given back by this very attempt: a repetition.
    return found or exists (
        select from session_jobs
        where id = of_job and worker is null and attempt = at_attempt and outcome is null
    );
end $$;

-- `applied`, `superseded`, or null: the worker has lost the job.
create function duologue_finish_job(
    of_job bigint, by_worker text, at_attempt integer, summarized jsonb
) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
    job    session_jobs;
    result text := 'superseded';
    held   sessions;
begin
    select * into job from session_jobs
    where id = of_job and worker = by_worker and attempt = at_attempt
    for update;
    if not found then
        return null;
    end if;
    if job.outcome is not null then
        return to_jsonb(job.outcome);
    end if;
    update sessions set
        status = 'completed', last_seq = last_seq + 1,
        summary = summarized -> 'payload' ->> 'summary',
        summary_status = summarized -> 'payload' ->> 'status'
    where session_id = job.session_id and status = 'ended' and last_seq = job.last_seq
    returning * into held;
    if found then
        result := 'applied';
        perform duologue_insert_events(
            job.session_id, held.epoch, job.last_seq, jsonb_build_array(summarized));
    end if;
    update session_jobs set outcome = result, finished_at = clock_timestamp() where id = of_job;
    return to_jsonb(result);
end $$;

-- Renews those of `leases`, each with its `session_id` and `epoch`, that the server still holds, and
-- returns those that are lost: claimed again since, or deleted.
create function duologue_renew(
    by_server text, leases jsonb, lease_seconds double precision
) returns jsonb
language sql security definer set search_path from current as $$
    with named as materialized (
        select session_id, epoch from jsonb_to_recordset(leases) as l (session_id text, epoch bigint)
    ), held as materialized (
        select session_id from sessions join named using (session_id, epoch)
        where owner = by_server and status = 'active'
        -- In one order, so that two who lock several rows do not wait for each other.
        order by session_id for no key update of sessions
    ), renewed as (
        update sessions set lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
        where session_id in (select session_id from held)
    )
    select coalesce(jsonb_agg(jsonb_build_object('session_id', session_id, 'epoch', epoch)), '[]')
    from named
    where not exists (
        select from sessions as s
        where s.session_id = named.session_id and s.epoch = named.epoch
            and coalesce(s.owner, by_server) = by_server
    )
$$;

-- For operators: all sessions as they are stored, and their jobs. `OperatorStore` in the engine says what
-- each function must do. Nothing that serves users calls them.

-- The state of a job. Not for callers.
create function duologue_job_state(j session_jobs) returns text
language sql stable set search_path from current as $$
    select case
        when j.outcome is null and j.worker is not null and j.due_at > clock_timestamp()
            then 'running'
        when j.outcome is null then 'waiting'
        when j.outcome = 'superseded' then 'superseded'
        when exists (
            select from session_events as e
            where e.session_id = j.session_id and e.seq = j.last_seq + 1
                and e.event_type = 'session_summarized' and e.payload ->> 'status' = 'done'
        ) then 'done'
        -- A failure counts as long as the session has not gone on and no new attempt was made.
        when exists (
            select from sessions as s
            where s.session_id = j.session_id and s.status = 'completed'
                and s.last_seq = j.last_seq + 1
        ) then 'failed'
        else 'superseded'
    end
$$;

-- Not for callers either.
create function duologue_job_json(j session_jobs) returns jsonb
language sql stable set search_path from current as $$
    select jsonb_build_object(
        'id', j.id, 'session_id', j.session_id, 'user_id', j.user_id, 'last_seq', j.last_seq,
        'state', duologue_job_state(j), 'attempt', j.attempt, 'uncounted', j.uncounted, 'worker', j.worker,
        'due_in_seconds', case when j.outcome is null
            then greatest(extract(epoch from j.due_at - clock_timestamp()), 0) else 0 end,
        'outcome', j.outcome, 'last_error', j.last_error
    )
$$;

create function duologue_inspect_sessions(after_session text, at_most integer) returns jsonb
language sql stable security definer set search_path from current as $$
    select coalesce(jsonb_agg(page.session_id order by page.session_id), '[]')
    from (
        select s.session_id from sessions as s
        where after_session is null or s.session_id > after_session
        order by s.session_id limit at_most
    ) as page
$$;

-- One statement, so that all of it is from one snapshot.
create function duologue_inspect_head(for_session text) returns jsonb
language sql stable security definer set search_path from current as $$
    select jsonb_build_object(
        'record', duologue_session_json(s), 'epoch', s.epoch, 'owner', s.owner,
        'log_end', (
            select coalesce(max(e.seq), 0) from session_events as e
            where e.session_id = s.session_id
        ),
        'jobs', (
            select coalesce(jsonb_agg(duologue_job_json(j) order by j.id), '[]')
            from session_jobs as j where j.session_id = s.session_id
        )
    ) from sessions as s where s.session_id = for_session
$$;

create function duologue_inspect_rows(for_session text, after_seq bigint, at_most integer)
returns jsonb
language sql stable security definer set search_path from current as $$
    select coalesce(jsonb_agg(jsonb_build_object(
        'seq', page.seq, 'epoch', page.epoch, 'occurred_at', duologue_time(page.occurred_at),
        'event_type', page.event_type, 'payload', page.payload
    ) order by page.seq), '[]')
    from (
        select e.* from session_events as e
        where e.session_id = for_session and e.seq > after_seq
        order by e.seq limit at_most
    ) as page
$$;

create function duologue_inspect_jobs(only_failed boolean, after_job bigint, at_most integer)
returns jsonb
language sql stable security definer set search_path from current as $$
    select coalesce(jsonb_agg(duologue_job_json(page) order by page.id), '[]')
    from (
        select j.* from session_jobs as j
        where j.id > after_job and (not only_failed or exists (
            -- Says what `duologue_job_state` calls failed, without a look at the log of each.
            select from sessions as s
            where s.session_id = j.session_id and j.outcome = 'applied' and s.status = 'completed'
                and s.summary_status = 'failed' and s.last_seq = j.last_seq + 1
        ))
        order by j.id limit at_most
    ) as page
$$;

-- The state of a job that needs no other attempt, or what was done about it; null: there is no such job.
create function duologue_try_job_again(of_job bigint) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
    job     session_jobs;
    state   text;
    new_job bigint;
begin
    -- In the order in which a worker that finishes the job locks them.
    select * into job from session_jobs where id = of_job for update;
    if not found then
        return null;
    end if;
    perform from sessions where session_id = job.session_id for update;
    state := duologue_job_state(job);
    if state = 'waiting' then
        update session_jobs set due_at = least(due_at, clock_timestamp()) where id = of_job;
        return '"due_now"';
    end if;
    if state = 'failed' then
        update sessions set status = 'ended', summary_status = 'pending'
        where session_id = job.session_id;
        -- A new job: a worker that lost the answer to the old one's end can still ask for it.
        insert into session_jobs (session_id, user_id, last_seq, due_at)
        values (job.session_id, job.user_id, job.last_seq + 1, clock_timestamp())
        returning id into new_job;
    elsif state = 'superseded' then
        -- By this very function, perhaps: then the call is a repetition.
        select id into new_job from session_jobs
        where session_id = job.session_id and last_seq = job.last_seq + 1 and outcome is null;
    end if;
    if new_job is not null then
        return jsonb_build_object('replaced', new_job);
    end if;
    return to_jsonb(state);
end $$;

-- The tokens of all answers of a user since a moment. A session that ended earlier has none.
create function duologue_tokens_spent(for_user text, since timestamptz) returns jsonb
language sql stable security definer set search_path from current as $$
    select to_jsonb(coalesce(sum(
        coalesce((e.payload #>> '{usage,input_tokens}')::bigint, 0)
            + coalesce((e.payload #>> '{usage,output_tokens}')::bigint, 0)
    ), 0))
    from sessions as s
    join session_events as e
        on e.session_id = s.session_id and e.event_type = 'assistant_message'
            and e.occurred_at >= since
    where s.user_id = for_user and (s.end_time is null or s.end_time >= since)
$$;


-- Restores from a backup.

-- Where these rows are: the cluster, its timeline, the database and the table. What this role may not read
-- is left out.
create function duologue_origin() returns jsonb
language plpgsql set search_path from current as $$
declare
    origin jsonb := jsonb_build_object(
        'database', (select oid::text from pg_database where datname = current_database()),
        'table', 'sessions'::regclass::oid::text);
begin
    begin
        origin := origin || (
            select jsonb_build_object('system', system_identifier::text) from pg_control_system());
    exception when insufficient_privilege then
        null;
    end;
    begin
        -- Of the present, while pg_control_checkpoint() has the timeline of the last checkpoint.
        origin := origin || jsonb_build_object('timeline', left(pg_walfile_name(pg_current_wal_lsn()), 8));
    exception when insufficient_privilege then
        null;
    end;
    return origin;
end $$;

-- Makes the history that is in the database now a new one: gives every log a new id, and takes every lease
-- and job from its holder. Returns the number of sessions.
create function duologue_restored() returns bigint
language plpgsql security definer set search_path from current as $$
declare
    renewed bigint;
begin
    update duologue_installation set generation = generation + 1, origin = duologue_origin();
    update sessions set log_id = replace(gen_random_uuid()::text, '-', ''),
        -- Above every epoch that a server which still runs may have been given after the backup.
        epoch = epoch + 1000000, owner = null, lease_until = clock_timestamp();
    get diagnostics renewed = row_count;
    update session_jobs set worker = null, due_at = least(due_at, clock_timestamp())
    where outcome is null and worker is not null;
    -- A new cluster counts its transactions from the beginning: to its snapshots, rows from an older one
    -- would lie in the future.
    update session_events set txid = '3' where txid >= pg_snapshot_xmax(pg_current_snapshot());
    return renewed;
end $$;

-- Does the same if the rows are not where they were last seen. `{"restored": sessions or null,
-- "unreadable": what of the origin this role may not read}`.
create function duologue_check_origin() returns jsonb
language plpgsql security definer set search_path from current as $$
declare
    present  constant jsonb := duologue_origin();
    known    jsonb;
    restored bigint;
begin
    select origin into known from duologue_installation for update;
    if exists (select from jsonb_each(known) as k where present -> k.key <> k.value) then
        restored := duologue_restored();
    elsif not known @> present then
        update duologue_installation set origin = known || present;
    end if;
    return jsonb_build_object('restored', restored, 'unreadable', (
        select coalesce(jsonb_agg(part), '[]') from unnest('{system, timeline}'::text[]) as part
        where not present ? part
    ));
end $$;

insert into duologue_installation (origin) values (duologue_origin()) on conflict do nothing;

select duologue_secure_table('sessions');
select duologue_secure_table('session_events');
select duologue_secure_table('session_drafts');
select duologue_secure_table('session_jobs');
select duologue_secure_table('duologue_installation');
select duologue_secure_table('duologue_migrations');
select duologue_secure_functions();
select duologue_admit_api_roles();
$migration$);

select pg_temp.duologue_upgrade('predecessors', $migration$-- Copies the rows of the tables that before.sql has set aside, so that the server can read them.
--
-- Every old event becomes one new event, in the old order: by time, then by id. What a new log
-- must have besides is added: a beginning and an end, one ending for each turn, one result for each
-- tool call. An event that nothing here corresponds to becomes `imported`, and has all that it was.
-- What a translation leaves out of a payload stays in it under `former`.
--
-- The functions and tables below serve this copy only, and are gone when it is done.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);
-- Times without a zone are taken for UTC.
set local timezone = 'UTC';

-- Null unless it is a time that people live in. Times may be kept as seconds or milliseconds too.
create function duologue_former_time(value text) returns timestamptz
language plpgsql stable as $$
declare
    moment timestamptz;
begin
    if value ~ '^[0-9]{9,13}(\.[0-9]+)?$' then
        moment := to_timestamp(value::numeric / case when value::numeric > 1e11 then 1000 else 1 end);
    else
        moment := value::timestamptz;
    end if;
    return case when moment between '0001-01-02' and '9999-12-30' then moment end;
exception when data_exception then
    return null;
end $$;

-- The JSON in a text, if it is JSON.
create function duologue_former_json(value text) returns jsonb
language plpgsql immutable as $$
begin
    return case when value ~ '^\s*[[{]' then value::jsonb end;
exception when data_exception then
    return null;
end $$;

-- An object, whether it is one or is written in a text; otherwise an empty one.
create function duologue_former_object(value jsonb) returns jsonb
language sql immutable as $$
    select case when jsonb_typeof(object) = 'object' then object else '{}' end
    from (select case jsonb_typeof(value)
        when 'string' then duologue_former_json(value #>> '{}') else value end) as given (object)
$$;

-- The value of the first of these keys that has one.
create function duologue_former_first(facts jsonb, keys text[]) returns jsonb
language sql immutable as $$
    select facts -> key from unnest(keys) with ordinality as given (key, place)
    where jsonb_typeof(facts -> key) <> 'null' order by place limit 1
$$;

-- What somebody said, in whatever shape it was kept.
create function duologue_former_text(value jsonb) returns text
language plpgsql immutable as $$
begin
    return case jsonb_typeof(value)
        when 'object' then duologue_former_text(duologue_former_first(value, '{text, content, message,
            query, prompt, input, response, answer, reply, output, value, data, parts}'))
        when 'array' then (
            select string_agg(duologue_former_text(part), '' order by place)
            from jsonb_array_elements(value) with ordinality as given (part, place)
        )
        else value #>> '{}'
    end;
end $$;

-- What can be kept in a payload as it is. JSON that is nested without end, or has numbers without
-- end, is kept as text: readers of the log would refuse it.
create function duologue_former_kept(value jsonb) returns jsonb
language sql immutable as $$
    select case
        when jsonb_path_exists(value, 'strict $.**{64}') or value::text ~ '[0-9]{250}'
        then to_jsonb(value::text) else value
    end
$$;

create function duologue_former_kind(entry jsonb) returns text
language sql immutable as $$
    select case
        when type in ('session_started', 'session_start', 'session_created', 'session_opened', 'start')
            then 'started'
        when type in ('session_ended', 'session_end', 'session_closed', 'session_completed', 'end')
            then 'ended'
        when type in ('user_message', 'user', 'user_msg', 'user_input', 'user_text', 'human',
            'human_message', 'message_user', 'input', 'prompt') then 'user'
        when type in ('assistant_message', 'assistant', 'assistant_msg', 'assistant_response',
            'assistant_reply', 'assistant_text', 'message_assistant', 'ai', 'ai_message', 'ai_response',
            'bot', 'bot_message', 'bot_response', 'agent_message', 'agent_response', 'model_response',
            'llm_response', 'response', 'answer', 'completion') then 'assistant'
        when type in ('tool_call', 'tool_use', 'tool_request', 'tool_invocation', 'tool_start',
            'tool_started', 'function_call') then 'call'
        when type in ('tool_result', 'tool_response', 'tool_output', 'tool_end', 'tool_finished',
            'tool_message', 'function_result', 'function_response', 'function_call_output') then 'result'
        when type in ('message', 'chat_message', 'chat', 'msg', 'text', 'tool', '') then case
            when role in ('user', 'human') then 'user'
            when role in ('assistant', 'ai', 'bot', 'agent', 'model') then 'assistant'
            when role in ('tool', 'function') then 'result'
            else 'other'
        end
        else 'other'
    end
    from (select
        trim('_' from regexp_replace(lower(regexp_replace(coalesce(entry ->> 'event_type', ''),
            '([a-z])([A-Z])', '\1_\2', 'g')), '[^a-z0-9]+', '_', 'g')),
        lower(coalesce(entry ->> 'role', entry #>> '{payload,role}', entry #>> '{meta,role}', ''))
    ) as named (type, role)
$$;

create function duologue_former_session_id(value text) returns text
language sql immutable as $$
    select case
        when value is null then 'former-orphans'
        when value ~ '^[A-Za-z0-9._:-]{1,128}$' then value
        else 'former-' || md5(value)
    end
$$;

create function duologue_former_user_id(value text) returns text
language sql immutable as $$
    select case
        when coalesce(value, '') = '' then 'anonymous'
        when char_length(value) <= 128 and value !~ '[\u0001-\u001f\u007f-\u009f]' then value
        else 'former:' || md5(value)
    end
$$;

-- What somebody said in an event: in a column of its own, or in the payload.
create function duologue_former_said(entry jsonb) returns text
language sql stable as $$
    select coalesce(duologue_former_text(entry -> 'content'), duologue_former_text(
        coalesce(nullif(duologue_former_object(entry -> 'payload'), '{}'), entry -> 'payload')))
$$;

create function duologue_former_tool(facts jsonb) returns text
language sql stable as $$
    select coalesce(named ->> 'name', case when jsonb_typeof(named) = 'string' then named #>> '{}' end,
        'unknown')
    from duologue_former_first(facts, '{tool_name, name, tool, function}') as named
$$;

-- Always an object, as tools expect.
create function duologue_former_arguments(facts jsonb) returns jsonb
language sql stable as $$
    select case
        when value is null then '{}'
        when jsonb_typeof(duologue_former_kept(value)) = 'object' then value
        when duologue_former_kept(duologue_former_object(value)) not in ('{}', '""')
            and jsonb_typeof(duologue_former_kept(duologue_former_object(value))) = 'object'
            then duologue_former_object(value)
        else jsonb_build_object('value', duologue_former_kept(value))
    end
    from (select coalesce(
        duologue_former_first(facts, '{arguments, args, parameters, params, input}'),
        facts #> '{function, arguments}')) as given (value)
$$;

-- `{"result": …}` or `{"error": "…"}`.
create function duologue_former_outcome(entry jsonb, facts jsonb) returns jsonb
language sql stable as $$
    select case
        when found is null and jsonb_typeof(facts -> 'error') <> 'null'
            then jsonb_build_object('error', facts ->> 'error')
        else jsonb_build_object('result', duologue_former_kept(coalesce(found,
            nullif(duologue_former_object(entry -> 'content'), '{}'), entry -> 'content', 'null')))
    end
    from (select coalesce(
        duologue_former_first(facts, '{result, output, response, content, text, value, data}'),
        -- A payload that is the result itself.
        case when duologue_former_object(entry -> 'payload') = '{}'
            then nullif(entry -> 'payload', 'null') end
    )) as given (found)
$$;

create function duologue_former_milliseconds(since timestamptz, moment timestamptz) returns bigint
language sql immutable as $$
    select greatest(round(extract(epoch from moment - since) * 1000), 0)::bigint
$$;

-- An event as `duologue_insert_events` takes it. Of `rest`, which readers of the log pass over, only
-- something is kept, not nothing.
create function duologue_former_event(
    event_type text, moment timestamptz, payload jsonb, rest jsonb default null
) returns jsonb
language sql stable as $$
    select jsonb_build_object('event_type', event_type, 'occurred_at', moment, 'payload',
        payload || case when rest is null or rest = '{}' then '{}'
            else jsonb_build_object('former', rest) end)
$$;

-- A result for each call that has none: models refuse a conversation with a call left open.
create function duologue_former_unanswered(calls jsonb, turn_id text, moment timestamptz) returns jsonb[]
language sql stable as $$
    select coalesce(array_agg(duologue_former_event('tool_result', moment, jsonb_build_object(
        'turn_id', turn_id, 'call_id', call ->> 'call_id', 'name', call ->> 'name',
        'error', 'no result was recorded', 'duration_ms', 0
    )) order by place), '{}')
    from jsonb_array_elements(calls) with ordinality as given (call, place)
$$;

-- The end of a turn that nobody answered.
create function duologue_former_interrupted(
    calls jsonb, turn_id text, asked_at timestamptz, moment timestamptz
) returns jsonb[]
language sql stable as $$
    select duologue_former_unanswered(calls, turn_id, moment)
        || duologue_former_event('assistant_message', moment, jsonb_build_object(
            'turn_id', turn_id, 'text', '', 'finish_reason', 'interrupted', 'model', 'unknown',
            'duration_ms', duologue_former_milliseconds(asked_at, moment)))
$$;

-- The old events, put in order and told apart. A turn begins with a user's message; its answer is
-- all that the assistant said in it, in the place of the last that it said.
do $$
begin
    if to_regclass('former_sessions') is null then
        create temporary table former_sessions (session_id text) on commit drop;
    else
        -- Policies of its own must not hide rows from this copy.
        alter table former_sessions no force row level security;
    end if;
    if to_regclass('former_session_events') is null then
        create temporary table former_session_events (session_id text) on commit drop;
    else
        alter table former_session_events no force row level security;
    end if;
end $$;

create temporary table former_entries on commit drop as
with entries as (
    select entry, duologue_former_session_id(entry ->> 'session_id') as session_id,
        duologue_former_kind(entry) as kind,
        duologue_former_time(coalesce(entry ->> 'occurred_at', entry ->> 'ts')) as moment
    from (select to_jsonb(e) from former_session_events as e) as old (entry)
), timed as (
    -- One without a time happened when the one before it did.
    select entry, session_id, kind, coalesce(moment, max(moment) over (
        partition by session_id order by entry -> 'id' rows unbounded preceding)) as moment
    from entries
), placed as (
    select *, row_number() over in_order as place,
        count(*) filter (where kind = 'user') over in_order as turn
    from timed
    window in_order as (partition by session_id order by moment nulls first, entry -> 'id'
        rows unbounded preceding)
)
select *,
    row_number() over (partition by session_id order by place desc) = 1 as is_last,
    row_number() over (partition by session_id, turn, kind order by place desc) = 1 as is_last_of_kind
from placed;

create index on former_entries (session_id, place);

create temporary table former_heads on commit drop as
select *,
    coalesce(duration, greatest(round(extract(epoch from ended_at - started_at), 3), 0)) as seconds
from (
    select coalesce(s.session_id, e.session_id) as session_id, s.head, e.first_at,
        case when s.head is null then 'former:nobody'
            else duologue_former_user_id(s.head ->> 'user_id') end as user_id,
        coalesce(s.start_time, e.first_at, s.end_time, now()) as started_at,
        coalesce(s.end_time, e.last_at, s.start_time, now()) as ended_at,
        coalesce(e.last_at, s.start_time, now()) as last_at,
        -- Without a state, an end or a summary tells. Events without a session are nobody's to go on with.
        s.head is null or s.end_time is not null or case when s.head ? 'status'
            then lower(coalesce(s.head ->> 'status', 'active')) <> 'active'
            else s.head ->> 'summary' is not null end as is_over,
        case when s.head ->> 'summary' ~ '\S' then s.head ->> 'summary' end as summary,
        coalesce(nullif(s.head ->> 'agent', ''), 'former') as agent,
        case when jsonb_typeof(duologue_former_kept(s.head -> 'metadata')) = 'object'
                then s.head -> 'metadata' else '{}' end
            || case when s.rest <> '{}'
                then jsonb_build_object('former', duologue_former_kept(s.rest)) else '{}' end as metadata,
        case when jsonb_typeof(s.head -> 'duration_seconds') = 'number'
                and (s.head ->> 'duration_seconds')::numeric between 0 and 1e12
            then round((s.head ->> 'duration_seconds')::numeric, 3) end as duration
    from (
        select head, duologue_former_session_id(head ->> 'session_id') as session_id,
            -- Columns of the owner's own, ids that had to be changed, and metadata that is no object.
            head - '{status, start_time, end_time, duration_seconds, summary, agent}'::text[]
                - case when duologue_former_session_id(head ->> 'session_id') = head ->> 'session_id'
                    then 'session_id' else '' end
                - case when duologue_former_user_id(head ->> 'user_id') = head ->> 'user_id'
                        or head ->> 'user_id' is null then 'user_id' else '' end
                - case when head -> 'metadata' = 'null'
                        or jsonb_typeof(duologue_former_kept(head -> 'metadata')) = 'object'
                    then 'metadata' else '' end as rest,
            duologue_former_time(head ->> 'start_time') as start_time,
            duologue_former_time(head ->> 'end_time') as end_time
        from (select to_jsonb(s) from former_sessions as s) as old (head)
    ) as s
    full join (
        select session_id, min(moment) as first_at, max(moment) as last_at
        from former_entries group by session_id
    ) as e on e.session_id = s.session_id
) as joined;

create index on former_heads (session_id);

-- The log of a session: its old events as ours, and what ours need besides.
create function duologue_former_log(of_session text) returns jsonb
language plpgsql as $$
declare
    head     record;
    old      record;
    log      jsonb[] := '{}';
    moment   timestamptz;
    turn_id  text;                -- of the turn that is open
    asked_at timestamptz;
    said     text[];              -- by the assistant, in this turn
    calls    jsonb := '[]';       -- those without a result
    call     jsonb;
    facts    jsonb;
    rest     jsonb;               -- what the translation does not express
    wanted   text;
    ending   jsonb;
    started  jsonb;
begin
    select * into head from former_heads as h where h.session_id = of_session;
    moment := least(head.started_at, head.first_at);
    started := jsonb_build_object(
        'session_id', of_session, 'user_id', head.user_id, 'agent', head.agent);
    for old in select * from former_entries as e where e.session_id = of_session order by e.place
    loop
        facts := duologue_former_object(old.entry -> 'meta')
            || duologue_former_object(old.entry -> 'payload');
        if old.kind in ('call', 'result') then
            facts := duologue_former_object(old.entry -> 'content') || facts;
        end if;
        rest := duologue_former_kept(facts - '{type, event_type, role, text, content, message, call_id,
            tool_call_id, name, tool_name, arguments, result, error}'::text[]);

        if old.place = 1 then
            if old.kind = 'started' then
                log := log || duologue_former_event('session_started', moment, started, rest);
                continue;
            end if;
            log := log || duologue_former_event('session_started', moment, started);
        end if;
        moment := greatest(moment, old.moment);

        if old.kind = 'user' then
            if turn_id is not null then
                log := log || duologue_former_interrupted(calls, turn_id, asked_at, moment);
            end if;
            turn_id := 'turn-' || old.turn;
            asked_at := moment;
            said := '{}';
            calls := '[]';
            log := log || duologue_former_event('user_message', moment, jsonb_build_object(
                'turn_id', turn_id, 'text', coalesce(duologue_former_said(old.entry), '')), rest);
            continue;
        end if;

        if old.kind = 'assistant' and turn_id is not null then
            said := said || duologue_former_said(old.entry);
            if old.is_last_of_kind then
                -- Joining arrays copies them, and adding one element does not.
                if calls <> '[]' then
                    log := log || duologue_former_unanswered(calls, turn_id, moment);
                end if;
                log := log || duologue_former_event('assistant_message', moment, jsonb_build_object(
                    'turn_id', turn_id, 'text', array_to_string(said, e'\n\n'),
                    'finish_reason', 'stop', 'model', coalesce(facts ->> 'model', 'unknown'),
                    'duration_ms', duologue_former_milliseconds(asked_at, moment)), rest);
                turn_id := null;
                continue;
            end if;
        end if;

        if old.kind = 'call' and turn_id is not null then
            call := jsonb_build_object('name', duologue_former_tool(facts), 'at', moment, 'call_id',
                coalesce(duologue_former_first(facts, '{call_id, tool_call_id, tool_use_id, id}') #>> '{}',
                    'former-' || old.place));
            -- Two open calls of one id would leave it open which of them a result answers.
            if not calls @> jsonb_build_array(jsonb_build_object('call_id', call -> 'call_id')) then
                calls := calls || call;
                log := log || duologue_former_event('tool_call', moment, jsonb_build_object(
                    'turn_id', turn_id, 'call_id', call -> 'call_id', 'name', call -> 'name',
                    'arguments', duologue_former_arguments(facts)), rest);
                continue;
            end if;
        end if;

        if old.kind = 'result' and turn_id is not null then
            wanted := duologue_former_first(facts, '{call_id, tool_call_id, tool_use_id}') #>> '{}';
            select open_call into call
            from jsonb_array_elements(calls) with ordinality as given (open_call, place)
            where case
                when wanted is not null then open_call ->> 'call_id' = wanted
                else duologue_former_tool(facts) in ('unknown', open_call ->> 'name')
            end
            order by place limit 1;
            if found then
                select coalesce(jsonb_agg(open_call order by place), '[]') into calls
                from jsonb_array_elements(calls) with ordinality as given (open_call, place)
                where open_call <> call;
                log := log || duologue_former_event('tool_result', moment, jsonb_build_object(
                        'turn_id', turn_id, 'call_id', call -> 'call_id', 'name', call -> 'name',
                        'duration_ms', duologue_former_milliseconds((call ->> 'at')::timestamptz, moment)
                    ) || duologue_former_outcome(old.entry, facts), rest);
                continue;
            end if;
        end if;

        if old.kind = 'ended' and old.is_last and head.is_over then
            ending := rest;
            continue;
        end if;

        log := log || duologue_former_event('imported', moment, jsonb_build_object(
            'former_type', coalesce(old.entry ->> 'event_type', 'unknown'),
            'former', duologue_former_kept(old.entry)));
    end loop;

    if cardinality(log) = 0 then
        log := log || duologue_former_event('session_started', moment, started);
    end if;
    if turn_id is not null then
        log := log || duologue_former_interrupted(calls, turn_id, asked_at, moment);
    end if;
    if head.is_over then
        moment := greatest(moment, head.ended_at);
        log := log
            || duologue_former_event('session_ended', moment, '{"reason": "closed"}', ending)
            || duologue_former_event('session_summarized', moment, case when head.summary is null
                then '{"status": "failed"}'
                else jsonb_build_object('status', 'done', 'summary', head.summary) end);
    end if;
    return to_jsonb(log);
end $$;

-- Sessions that were over stay so, with the summary that they had or without one. Those left active
-- are released: a server takes them over, ends them and summarises them.
insert into sessions (
    session_id, user_id, status, start_time, end_time, duration_seconds, summary, summary_status,
    end_reason, agent, metadata, lease_until
)
select session_id, user_id, case when is_over then 'completed' else 'active' end, started_at,
    case when is_over then ended_at end, case when is_over then seconds end, summary,
    case when is_over then case when summary is null then 'failed' else 'done' end end,
    case when is_over then 'closed' end, agent, metadata, least(last_at, now())
from former_heads;

do $$
declare
    of_session text;
    log        jsonb;
begin
    for of_session in select session_id from former_heads loop
        log := duologue_former_log(of_session);
        perform duologue_insert_events(of_session, 1, 0, log);
        update sessions set last_seq = jsonb_array_length(log) where session_id = of_session;
    end loop;
end $$;

-- The tables set aside keep what they have, out of everybody's reach.
do $$
declare
    the_table regclass;
begin
    for the_table in
        select c.oid from pg_class as c
        where c.relnamespace = quote_ident(current_schema())::regnamespace
            and c.relname in ('former_sessions', 'former_session_events')
    loop
        perform duologue_secure_table(the_table);
        execute format('comment on table %s is %L', the_table,
            'As it was before the upgrade. Nothing reads it; drop it when you no longer need it.');
    end loop;
end $$;

drop function duologue_former_log, duologue_former_interrupted, duologue_former_unanswered,
    duologue_former_event, duologue_former_milliseconds, duologue_former_outcome,
    duologue_former_arguments, duologue_former_tool, duologue_former_said, duologue_former_user_id,
    duologue_former_session_id, duologue_former_kind, duologue_former_kept, duologue_former_text,
    duologue_former_first, duologue_former_object, duologue_former_json, duologue_former_time;
$migration$);

select pg_temp.duologue_apply(2, 'batches', $migration$-- Writes in batches: a server sends the writes of all its sessions that came while its last batch was under
-- way as one call. One call, one statement, one commit, and one answer for each write.
--
-- What each write does, its fences and its idempotence are those of the function of version 1 that it
-- replaces. A write that is rejected does not affect the others. Two properties keep servers apart:
--
--   * No write waits for a row. A row that another transaction has locked is skipped, the write is answered
--     `locked`, and the server sends it again with a later batch. So no two batches can deadlock, and one
--     locked session does not delay the others. The one exception is a session that two servers create at
--     the same time; each batch inserts new sessions in the order of their ids.
--   * Each kind of write is one statement over the whole set, in plpgsql, whose plans are kept: functions in
--     the language SQL are planned again by every statement that calls them.
--
-- Builds that need version 1 call its functions, so they stay: duologue_claim, duologue_release,
-- duologue_append, duologue_end, duologue_save_draft, duologue_claim_job, duologue_renew_job,
-- duologue_release_job and duologue_finish_job. This build calls none of them.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- The parts of duologue_write. Each takes an array of writes and returns an object: the answers by the
-- position of the write, from 0. A write without an answer was carried out.
--
-- Plans are made while the tables are small, and kept. Without sequential scans they stay good.

-- Appends: `{"session_id", "user_id", "server", "epoch", "after_seq", "events"}`, the events as
-- `[{"event_type", "payload", "occurred_at"}, …]`. A session may be in one array only once.
-- Answers: `conflict`, `locked`.
create function duologue_write_appends(appends jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    stored bigint[];
begin
    with wanted as materialized (
        select position, w.*
        from jsonb_array_elements(appends) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                session_id text, user_id text, server text, epoch bigint, after_seq bigint, events jsonb)
    ), held as materialized (
        select s.session_id, s.user_id, s.owner, s.epoch, s.status, s.last_seq
        from sessions as s
        where s.session_id = any (array(select w.session_id from wanted as w))
        for no key update skip locked
    ), fit as materialized (
        select w.* from wanted as w join held as h using (session_id)
        where h.user_id = w.user_id and h.owner = w.server and h.epoch = w.epoch
            and h.status = 'active' and h.last_seq = w.after_seq
    ), advanced as (
        update sessions as s set last_seq = f.after_seq + jsonb_array_length(f.events)
        from fit as f where s.session_id = f.session_id
    ), inserted as (
        insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select f.session_id, f.after_seq + place, f.epoch, event ->> 'event_type', event -> 'payload',
            (event ->> 'occurred_at')::timestamptz
        from fit as f, jsonb_array_elements(f.events) with ordinality as new (event, place)
        order by f.position, place
    ), undrafted as (
        delete from session_drafts as d
        where d.session_id = any (array(
            select f.session_id from fit as f
            where f.events @> '[{"event_type": "assistant_message"}]'))
    )
    select coalesce(array_agg(f.position), '{}') into stored from fit as f;
    if cardinality(stored) = jsonb_array_length(appends) then
        return '{}';
    end if;
    return duologue_unstored(appends, stored);
end $$;

-- Endings: as appends, the last event of each is `session_ended`. With `{"worker", "lease_seconds"}` the job is
-- born claimed by that worker. Answers: `conflict`, `locked`; or that job, also to a repetition, as long as the
-- worker has it.
create function duologue_write_ends(ends jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    stored  bigint[];
    answers jsonb := '{}';
    jobs    jsonb;
begin
    with wanted as materialized (
        select position, w.*, w.events -> -1 as last_event,
            (w.events -> -1 ->> 'occurred_at')::timestamptz as ended_at,
            w.after_seq + jsonb_array_length(w.events) as new_last
        from jsonb_array_elements(ends) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                session_id text, user_id text, server text, epoch bigint, after_seq bigint, events jsonb,
                worker text, lease_seconds double precision)
    ), held as materialized (
        select s.session_id, s.user_id, s.owner, s.epoch, s.status, s.last_seq
        from sessions as s
        where s.session_id = any (array(select w.session_id from wanted as w))
        for no key update skip locked
    ), fit as materialized (
        select w.* from wanted as w join held as h using (session_id)
        where h.user_id = w.user_id and h.owner = w.server and h.epoch = w.epoch
            and h.status = 'active' and h.last_seq = w.after_seq
    ), ended as (
        update sessions as s set
            last_seq = f.new_last, status = 'ended', end_time = f.ended_at,
            duration_seconds =
                round(greatest(extract(epoch from f.ended_at - s.start_time)::numeric, 0), 3),
            end_reason = f.last_event -> 'payload' ->> 'reason', summary_status = 'pending',
            owner = null, lease_until = clock_timestamp()
        from fit as f where s.session_id = f.session_id
    ), inserted as (
        insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select f.session_id, f.after_seq + place, f.epoch, event ->> 'event_type', event -> 'payload',
            (event ->> 'occurred_at')::timestamptz
        from fit as f, jsonb_array_elements(f.events) with ordinality as new (event, place)
        order by f.position, place
    ), undrafted as (
        delete from session_drafts as d
        where d.session_id = any (array(select f.session_id from fit as f))
    ), queued as (
        insert into session_jobs (session_id, user_id, last_seq, worker, attempt, due_at)
        select f.session_id, f.user_id, f.new_last, f.worker,
            case when f.worker is null then 0 else 1 end,
            clock_timestamp() + make_interval(secs => coalesce(f.lease_seconds, 0))
        from fit as f
        order by f.position
    )
    select coalesce(array_agg(f.position), '{}') into stored from fit as f;
    if cardinality(stored) < jsonb_array_length(ends) then
        answers := duologue_unstored(ends, stored);
    end if;
    select jsonb_object_agg(position - 1, jsonb_build_object(
        'id', j.id, 'session_id', j.session_id, 'user_id', j.user_id, 'last_seq', j.last_seq,
        'worker', j.worker, 'attempt', j.attempt, 'uncounted', j.uncounted)) into jobs
    from jsonb_array_elements(ends) with ordinality as given (item, position),
        jsonb_to_record(item) as w (session_id text, after_seq bigint, events jsonb, worker text),
        session_jobs as j
    where j.session_id = w.session_id and j.last_seq = w.after_seq + jsonb_array_length(w.events)
        and j.worker = w.worker and j.attempt = 1 and j.outcome is null
        and not answers ? (position - 1)::text;
    return answers || coalesce(jobs, '{}');
end $$;

-- Why appends or endings were not stored, those at `stored` (from 1) aside. One whose events are all in the
-- log under its epoch is a repetition, and counts as stored.
create function duologue_unstored(writes jsonb, stored bigint[]) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
begin
    select jsonb_object_agg(position - 1, answer) into answers from (
        select position, case
            when jsonb_array_length(w.events) > 0 and not exists (
                select from jsonb_array_elements(w.events) with ordinality as new (event, place)
                where not exists (
                    select from session_events as e
                    where e.session_id = w.session_id and e.seq = w.after_seq + place
                        and e.epoch = w.epoch and e.event_type = event ->> 'event_type'
                        and e.payload = event -> 'payload'
                        and e.occurred_at = (event ->> 'occurred_at')::timestamptz
                )
            ) and exists (
                select from sessions as s where s.session_id = w.session_id and s.user_id = w.user_id
            ) then null
            when exists (
                select from sessions as s
                where s.session_id = w.session_id and s.user_id = w.user_id and s.owner = w.server
                    and s.epoch = w.epoch and s.status = 'active' and s.last_seq = w.after_seq
            ) then 'locked'
            else 'conflict' end as answer
        from jsonb_array_elements(writes) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                session_id text, user_id text, server text, epoch bigint, after_seq bigint, events jsonb)
        where position <> all (stored)
    ) as examined where answer is not null;
    return coalesce(answers, '{}');
end $$;

-- Drafts: `{"session_id", "user_id", "server", "epoch", "turn_id", "text"}`. A session may be in one array
-- only once. The draft of a session that is locked is left out: the next one replaces it anyway.
-- Answers: `lost`, if the session was claimed again since, or is gone.
create function duologue_write_drafts(drafts jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
begin
    with wanted as materialized (
        select position, w.*
        from jsonb_array_elements(drafts) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                session_id text, user_id text, server text, epoch bigint, turn_id text, text text)
    ), held as materialized (
        -- The lock keeps a claim from coming in between.
        select s.session_id, s.user_id, s.owner, s.epoch, s.status
        from sessions as s
        where s.session_id = any (array(select w.session_id from wanted as w))
        for no key update skip locked
    ), saved as (
        insert into session_drafts as d (session_id, turn_id, text, saved_at)
        select w.session_id, w.turn_id, w.text, clock_timestamp()
        from wanted as w join held as h using (session_id)
        where h.user_id = w.user_id and h.owner = w.server and h.epoch = w.epoch
            and h.status = 'active'
        on conflict (session_id) do update set
            turn_id = excluded.turn_id, text = excluded.text, saved_at = excluded.saved_at
    )
    select jsonb_object_agg(w.position - 1, 'lost') into answers
    from wanted as w
    where not exists (
        select from sessions as s
        where s.session_id = w.session_id and s.user_id = w.user_id and s.epoch = w.epoch
            and coalesce(s.owner, w.server) = w.server
    );
    return coalesce(answers, '{}');
end $$;

-- Releases: `{"session_id", "user_id", "server", "epoch"}`. Answers: `locked`. Under an old epoch a release
-- does nothing, and counts as carried out.
create function duologue_write_releases(releases jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
begin
    with wanted as materialized (
        select position, w.*
        from jsonb_array_elements(releases) with ordinality as given (item, position),
            jsonb_to_record(item) as w (session_id text, user_id text, server text, epoch bigint)
    ), held as materialized (
        select s.session_id from sessions as s
        where s.session_id = any (array(select w.session_id from wanted as w))
        for no key update skip locked
    ), released as (
        update sessions as s set owner = null, lease_until = clock_timestamp()
        from wanted as w join held as h using (session_id)
        where s.session_id = w.session_id and s.user_id = w.user_id and s.owner = w.server
            and s.epoch = w.epoch and s.status = 'active'
    )
    select jsonb_object_agg(w.position - 1, 'locked') into answers
    from wanted as w join sessions as s using (session_id)
    where s.user_id = w.user_id and s.owner = w.server and s.epoch = w.epoch and s.status = 'active'
        and not exists (select from held as h where h.session_id = w.session_id);
    return coalesce(answers, '{}');
end $$;

-- Claims: `{"session_id", "user_id", "agent", "server", "lease_seconds", "started_at", "events",
-- "spent_since"}`, the last of which may be missing. A session may be in one array only once. If the log is
-- empty, it begins with the events. Answers: the session as the server needs it (see duologue_claimed_json), and
-- with it whether the log was `started`, and the user's `tokens_spent` since the moment given; null if the
-- session belongs to another user; or `locked`.
create function duologue_write_claims(claims jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
begin
    with wanted as materialized (
        select position, w.*, jsonb_array_length(w.events) as length
        from jsonb_array_elements(claims) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                session_id text, user_id text, agent text, server text, lease_seconds double precision,
                started_at timestamptz, events jsonb, spent_since timestamptz)
    ), held as materialized (
        select s.session_id, s.user_id, s.last_seq from sessions as s
        where s.session_id = any (array(select w.session_id from wanted as w))
        for no key update skip locked
    ), taken as (
        update sessions as s set
            status = 'active', end_time = null, duration_seconds = null, end_reason = null,
            summary_status = null, epoch = s.epoch + 1, owner = w.server,
            lease_until = clock_timestamp() + make_interval(secs => w.lease_seconds),
            last_seq = case when h.last_seq = 0 then w.length else h.last_seq end
        from wanted as w join held as h using (session_id)
        where s.session_id = w.session_id and h.user_id = w.user_id
        returning s.*
    ), made as (
        insert into sessions as s (
            session_id, user_id, start_time, agent, owner, lease_until, last_seq)
        select w.session_id, w.user_id, w.started_at, w.agent, w.server,
            clock_timestamp() + make_interval(secs => w.lease_seconds), w.length
        from wanted as w
        where not exists (select from sessions as s where s.session_id = w.session_id)
        -- In one order, so that two servers that create the same sessions do not wait for each other.
        order by w.session_id
        on conflict do nothing
        returning s.*
    ), claimed as materialized (
        select * from taken union all select * from made
    ), started as materialized (
        select w.position, w.session_id, w.events, c.epoch
        from wanted as w join claimed as c using (session_id) left join held as h using (session_id)
        where w.length > 0 and coalesce(h.last_seq, 0) = 0
    ), inserted as (
        insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select b.session_id, place, b.epoch, event ->> 'event_type', event -> 'payload',
            (event ->> 'occurred_at')::timestamptz
        from started as b, jsonb_array_elements(b.events) with ordinality as new (event, place)
        order by b.position, place
    )
    select jsonb_object_agg(w.position - 1, case
        when c.session_id is not null then jsonb_build_object(
            'session', jsonb_build_object(
                'session_id', c.session_id, 'user_id', c.user_id, 'status', c.status,
                'start_time', c.start_time, 'end_time', c.end_time,
                'duration_seconds', c.duration_seconds, 'summary', c.summary,
                'summary_status', c.summary_status, 'end_reason', c.end_reason, 'agent', c.agent,
                'metadata', c.metadata, 'last_seq', c.last_seq, 'log_id', c.log_id),
            'epoch', c.epoch, 'owner', c.owner, 'started', b.position is not null,
            'reopened', c.epoch > 1 and exists (
                select from session_events as e
                where e.session_id = c.session_id and e.seq = c.last_seq
                    and e.event_type in ('session_ended', 'session_summarized')),
            'draft', case when c.epoch > 1 then (
                select jsonb_build_object('turn_id', d.turn_id, 'text', d.text)
                from session_drafts as d where d.session_id = c.session_id) end,
            'tokens_spent', case when w.spent_since is not null then (
                select coalesce(sum(
                    coalesce((e.payload #>> '{usage,input_tokens}')::bigint, 0)
                        + coalesce((e.payload #>> '{usage,output_tokens}')::bigint, 0)), 0)
                from sessions as s
                join session_events as e
                    on e.session_id = s.session_id and e.event_type = 'assistant_message'
                        and e.occurred_at >= w.spent_since
                where s.user_id = w.user_id
                    and (s.end_time is null or s.end_time >= w.spent_since)) end)
        -- Of another user; only if that is certain, since the row may be new or locked.
        when h.user_id <> w.user_id then 'null'
        else '"locked"' end) into answers
    from wanted as w left join claimed as c using (session_id) left join held as h using (session_id)
        left join started as b on b.position = w.position;
    return answers;
end $$;

-- The results of jobs: `{"id", "worker", "attempt", "event"}`. Answers: `applied`, `superseded`, `conflict`
-- if the worker has lost the job, or `locked`.
create function duologue_write_results(results jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
begin
    with wanted as materialized (
        select position, w.*
        from jsonb_array_elements(results) with ordinality as given (item, position),
            jsonb_to_record(item) as w (id bigint, worker text, attempt integer, event jsonb)
    ), jobs as materialized (
        select j.id, j.session_id, j.last_seq, j.worker, j.attempt, j.outcome
        from session_jobs as j
        where j.id = any (array(select w.id from wanted as w))
        for no key update skip locked
    ), held as materialized (
        select s.session_id, s.status, s.last_seq, s.epoch from sessions as s
        where s.session_id = any (array(select j.session_id from jobs as j))
        for no key update skip locked
    ), fit as materialized (
        select w.position, w.id, w.event, h.session_id, h.epoch, j.last_seq,
            h.status = 'ended' and h.last_seq = j.last_seq as is_applied
        from wanted as w join jobs as j using (id, worker, attempt) join held as h using (session_id)
        where j.outcome is null
    ), completed as (
        update sessions as s set
            status = 'completed', last_seq = s.last_seq + 1,
            summary = f.event -> 'payload' ->> 'summary',
            summary_status = f.event -> 'payload' ->> 'status'
        from fit as f where s.session_id = f.session_id and f.is_applied
    ), inserted as (
        insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select f.session_id, f.last_seq + 1, f.epoch, f.event ->> 'event_type', f.event -> 'payload',
            (f.event ->> 'occurred_at')::timestamptz
        from fit as f where f.is_applied
        order by f.position
    ), finished as (
        update session_jobs as j set
            outcome = case when f.is_applied then 'applied' else 'superseded' end,
            finished_at = clock_timestamp()
        from fit as f where j.id = f.id
    )
    select jsonb_object_agg(w.position - 1, case
        when f.is_applied then 'applied'
        when not f.is_applied then 'superseded'
        -- Finished before, by this very attempt: a repetition.
        when j.outcome is not null then j.outcome
        when j.id is not null then 'locked'
        when exists (
            select from session_jobs as other
            where other.id = w.id and other.worker = w.worker and other.attempt = w.attempt
                and not exists (select from jobs where jobs.id = w.id)
        ) then 'locked'
        else 'conflict' end) into answers
    from wanted as w left join fit as f using (position)
        left join jobs as j on j.id = w.id and j.worker = w.worker and j.attempt = w.attempt;
    return answers;
end $$;

-- Renewals and releases of jobs: `{"id", "worker", "attempt"}`, and with it `{"lease_seconds"}` to keep the
-- job, or `{"delay_seconds", "why", "is_counted"}` to give it back. Answers: `conflict` if another worker
-- has the job or it is over, `locked`.
create function duologue_write_jobs(changes jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
begin
    with wanted as materialized (
        select position, w.*
        from jsonb_array_elements(changes) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                id bigint, worker text, attempt integer, lease_seconds double precision,
                delay_seconds double precision, why text, is_counted boolean)
    ), jobs as materialized (
        select j.id, j.worker, j.attempt, j.outcome from session_jobs as j
        where j.id = any (array(select w.id from wanted as w))
        for no key update skip locked
    ), changed as (
        update session_jobs as j set
            worker = case when w.lease_seconds is not null then j.worker end,
            last_error = case when w.lease_seconds is not null then j.last_error else w.why end,
            uncounted = j.uncounted + case when w.is_counted is false then 1 else 0 end,
            due_at = clock_timestamp()
                + make_interval(secs => coalesce(w.lease_seconds, w.delay_seconds))
        from wanted as w join jobs as h using (id, worker, attempt)
        where j.id = w.id and h.outcome is null
    )
    select jsonb_object_agg(w.position - 1, answer) into answers
    from wanted as w left join jobs as h using (id), lateral (select case
        when h.id is null and exists (
            select from session_jobs as j
            where j.id = w.id and j.worker = w.worker and j.attempt = w.attempt
                and j.outcome is null
        ) then 'locked'
        when h.worker = w.worker and h.attempt = w.attempt and h.outcome is null then null
        -- Without a worker it was given back by this very attempt: a repetition.
        when w.lease_seconds is null and h.worker is null and h.attempt = w.attempt
            and h.outcome is null then null
        else 'conflict' end as answer) as examined
    where answer is not null;
    return coalesce(answers, '{}');
end $$;

-- Claims of jobs: `{"worker", "lease_seconds"}`. Each takes the job that has been due longest of those left.
-- Answers: the job, or null.
create function duologue_write_job_claims(claims jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
begin
    with wanted as materialized (
        select position, w.*
        from jsonb_array_elements(claims) with ordinality as given (item, position),
            jsonb_to_record(item) as w (worker text, lease_seconds double precision)
    ), due as materialized (
        select id, due_at from session_jobs where outcome is null and due_at <= clock_timestamp()
        order by due_at, id limit jsonb_array_length(claims)
        for no key update skip locked
    ), given as materialized (
        select w.position, w.worker, w.lease_seconds, d.id
        from wanted as w
        join (select id, row_number() over (order by due_at, id) as place from due) as d
            on d.place = w.position
    ), claimed as (
        update session_jobs as j set worker = g.worker, attempt = j.attempt + 1,
            due_at = clock_timestamp() + make_interval(secs => g.lease_seconds)
        from given as g where j.id = g.id
        returning g.position, jsonb_build_object(
            'id', j.id, 'session_id', j.session_id, 'user_id', j.user_id, 'last_seq', j.last_seq,
            'worker', j.worker, 'attempt', j.attempt, 'uncounted', j.uncounted) as job
    )
    select jsonb_object_agg(w.position - 1, c.job) into answers
    from wanted as w left join claimed as c using (position);
    return answers;
end $$;

-- Carries out a batch of writes: arrays by their kinds. Returns the answers of each kind.
create function duologue_write(batch jsonb) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
    answers jsonb := '{}';
begin
    -- Drafts first: an answer that is in the same batch deletes its draft.
    if batch ? 'drafts' then
        answers := jsonb_set(answers, '{drafts}', duologue_write_drafts(batch -> 'drafts'));
    end if;
    if batch ? 'appends' then
        answers := jsonb_set(answers, '{appends}', duologue_write_appends(batch -> 'appends'));
    end if;
    if batch ? 'ends' then
        answers := jsonb_set(answers, '{ends}', duologue_write_ends(batch -> 'ends'));
    end if;
    if batch ? 'releases' then
        answers := jsonb_set(answers, '{releases}', duologue_write_releases(batch -> 'releases'));
    end if;
    if batch ? 'claims' then
        answers := jsonb_set(answers, '{claims}', duologue_write_claims(batch -> 'claims'));
    end if;
    if batch ? 'results' then
        answers := jsonb_set(answers, '{results}', duologue_write_results(batch -> 'results'));
    end if;
    if batch ? 'jobs' then
        answers := jsonb_set(answers, '{jobs}', duologue_write_jobs(batch -> 'jobs'));
    end if;
    if batch ? 'job_claims' then
        answers := jsonb_set(answers, '{job_claims}', duologue_write_job_claims(batch -> 'job_claims'));
    end if;
    return answers;
end $$;

select duologue_secure_functions();
select duologue_admit_api_roles();
$migration$);

select pg_temp.duologue_apply(3, 'servers', $migration$-- Leases per server: a server renews one row a second, and not a row for each of its sessions. A session is
-- held as long as the lease of its owner lasts.
--
-- Builds that need version 1 or 2 call duologue_claim, duologue_renew and duologue_claim_lapsed with four
-- arguments, so they stay, and do the same for the servers that call them.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Half of a page stays free, so that a renewal finds room beside the row that it replaces.
create table servers (
    server_id   text        not null primary key,
    lease_until timestamptz not null
) with (fillfactor = 50);

comment on table servers is 'One row per run of a server; removed an hour after the last one is gone.';
comment on column servers.lease_until is
    'Until when the server holds the sessions that it owns, by the clock of this database. Then others may '
    'take them over.';
comment on column sessions.owner is
    'The server that holds the session, as long as its lease in `servers` lasts; null when it was released '
    'or the session has ended. A write by another server is refused, even under the current epoch.';
comment on column sessions.lease_until is
    'Of a session that nobody holds: since when.';

insert into servers (server_id, lease_until)
select owner, max(lease_until) from sessions where status = 'active' and owner is not null group by owner;

-- The first lease of each of these servers; later ones are renewed by heartbeats only.
create function duologue_start_leases(claims jsonb) returns void
language plpgsql set search_path from current as $$
begin
    insert into servers (server_id, lease_until)
    select w.server, max(clock_timestamp() + make_interval(secs => w.lease_seconds))
    from jsonb_to_recordset(claims) as w (server text, lease_seconds double precision)
    group by w.server
    on conflict do nothing;
end $$;

-- Renews the lease of a server, and returns those of `held`, each with its `session_id` and `epoch`, that are
-- lost: claimed again since, or deleted.
create function duologue_heartbeat(
    by_server text, lease_seconds double precision, held jsonb
) returns jsonb
language plpgsql security definer set search_path from current set enable_seqscan = off as $$
declare
    lost jsonb;
begin
    insert into servers (server_id, lease_until)
    values (by_server, clock_timestamp() + make_interval(secs => lease_seconds))
    on conflict (server_id) do update set lease_until = excluded.lease_until;
    select jsonb_agg(jsonb_build_object('session_id', h.session_id, 'epoch', h.epoch)) into lost
    from jsonb_to_recordset(held) as h (session_id text, epoch bigint)
    where not exists (
        select from sessions as s
        where s.session_id = h.session_id and s.epoch = h.epoch
            and coalesce(s.owner, by_server) = by_server
    );
    return coalesce(lost, '[]');
end $$;

-- Claims active sessions that nobody looks after: those whose server's lease has lapsed, or which were
-- released, longer ago than the grace; and those of `abandoned`, each with its `session_id`, `user_id` and, if
-- it is known, `epoch`, that the server itself still holds.
create function duologue_claim_lapsed(
    by_server text, lease_seconds double precision, grace_seconds double precision, at_most integer,
    abandoned jsonb
) returns jsonb
language plpgsql security definer set search_path from current set enable_seqscan = off as $$
declare
    since   constant timestamptz := clock_timestamp() - make_interval(secs => grace_seconds);
    lapsed  text[];
    ids     text[];
    epochs  bigint[];
    answers jsonb;
begin
    perform duologue_start_leases(
        jsonb_build_array(jsonb_build_object('server', by_server, 'lease_seconds', lease_seconds)));
    delete from servers where server_id = any (array(
        select v.server_id from servers as v
        where v.lease_until < clock_timestamp() - interval '1 hour' and not exists (
            select from sessions as s where s.status = 'active' and s.owner = v.server_id
        )
        for update skip locked
    ));
    lapsed := array(select v.server_id from servers as v where v.lease_until < since);
    select array_agg(session_id), array_agg(epoch) into ids, epochs from (
        select f.session_id, f.epoch from (
            select s.session_id, s.epoch, s.lease_until from sessions as s
            where s.status = 'active' and s.owner = any (lapsed)
            union all
            select s.session_id, s.epoch, s.lease_until from sessions as s
            where s.status = 'active' and s.owner is null and s.lease_until < since
            union all
            select s.session_id, s.epoch, s.lease_until
            from jsonb_to_recordset(abandoned) as a (session_id text, user_id text, epoch bigint)
                join sessions as s using (session_id)
            where s.status = 'active' and s.owner = by_server and s.user_id = a.user_id
                and s.epoch = coalesce(a.epoch, s.epoch)
        ) as f
        order by f.lease_until limit at_most
    ) as found;
    with free as materialized (
        select s.session_id
        from sessions as s join unnest(ids, epochs) as f (session_id, epoch) using (session_id, epoch)
        where s.status = 'active'
        -- Sweepers of several servers share the work instead of waiting for each other.
        for no key update of s skip locked
    ), claimed as (
        update sessions as s set epoch = s.epoch + 1, owner = by_server,
            lease_until = clock_timestamp() + make_interval(secs => lease_seconds)
        from free where s.session_id = free.session_id
        returning s as held
    )
    select jsonb_agg(duologue_claimed_json(held)) into answers from claimed;
    return coalesce(answers, '[]');
end $$;

-- For builds that need an older version.

create or replace function duologue_claim_lapsed(
    by_server text, lease_seconds double precision, grace_seconds double precision, at_most integer
) returns jsonb
language sql security definer set search_path from current as $$
    select duologue_claim_lapsed(by_server, lease_seconds, grace_seconds, at_most, '[]')
$$;

create or replace function duologue_renew(
    by_server text, leases jsonb, lease_seconds double precision
) returns jsonb
language sql security definer set search_path from current as $$
    select duologue_heartbeat(by_server, lease_seconds, leases)
$$;

alter function duologue_claim(text, text, text, text, double precision, timestamptz)
    rename to duologue_claim_1;

create function duologue_claim(
    for_session text, for_user text, for_agent text, by_server text, lease_seconds double precision,
    started_at timestamptz
) returns jsonb
language plpgsql security definer set search_path from current as $$
begin
    perform duologue_start_leases(
        jsonb_build_array(jsonb_build_object('server', by_server, 'lease_seconds', lease_seconds)));
    return duologue_claim_1(for_session, for_user, for_agent, by_server, lease_seconds, started_at);
end $$;

-- The calls that every session makes, cheaper.
--
-- A call of one write costs mostly the start of its statements: each part of a statement is set up, and functions
-- in the language SQL are planned once per statement that calls them. So what is common has short statements, in
-- plpgsql, and what is rare has its own.

-- Claims, as in version 2; they also start the first lease of their server, the same for all of a batch. Most
-- sessions are new, and known to the server once they are inserted.
create or replace function duologue_write_claims(claims jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers   jsonb;
    others    jsonb;
    positions bigint[];
begin
    if not exists (select from servers where server_id = claims -> 0 ->> 'server') then
        perform duologue_start_leases(claims);
    end if;
    with wanted as materialized (
        select position - 1 as position, w.*, jsonb_array_length(w.events) as length
        from jsonb_array_elements(claims) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                session_id text, user_id text, agent text, server text, lease_seconds double precision,
                started_at timestamptz, events jsonb, spent_since timestamptz)
    ), made as (
        insert into sessions as s (session_id, user_id, start_time, agent, owner, lease_until, last_seq)
        select w.session_id, w.user_id, w.started_at, w.agent, w.server,
            clock_timestamp() + make_interval(secs => w.lease_seconds), w.length
        from wanted as w
        -- In one order, so that two servers that create the same sessions do not wait for each other.
        order by w.session_id
        on conflict do nothing
        returning s.session_id, s.start_time, s.metadata, s.log_id
    ), started as materialized (
        select w.*, m.start_time, m.metadata, m.log_id
        from wanted as w join made as m using (session_id)
    ), inserted as (
        insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select b.session_id, place, 1, event ->> 'event_type', event -> 'payload',
            (event ->> 'occurred_at')::timestamptz
        from started as b, jsonb_array_elements(b.events) with ordinality as new (event, place)
        order by b.position, place
    )
    select jsonb_object_agg(b.position, jsonb_build_object(
        'session', jsonb_build_object(
            'session_id', b.session_id, 'user_id', b.user_id, 'status', 'active',
            'start_time', b.start_time, 'agent', b.agent, 'metadata', b.metadata,
            'last_seq', b.length, 'log_id', b.log_id),
        'epoch', 1, 'owner', b.server, 'started', b.length > 0, 'reopened', false,
        'tokens_spent', case when b.spent_since is not null then
            duologue_tokens_spent(b.user_id, b.spent_since) end)) into answers
    from started as b;
    answers := coalesce(answers, '{}');
    select jsonb_agg(item order by position), array_agg(position - 1 order by position)
    into others, positions
    from jsonb_array_elements(claims) with ordinality as given (item, position)
    where not answers ? (position - 1)::text;
    if others is not null then
        select answers || jsonb_object_agg(positions[key::integer + 1], value) into answers
        from jsonb_each(duologue_claim_existing(others));
    end if;
    return answers;
end $$;

-- Claims of sessions that exist: the same in and out.
create function duologue_claim_existing(claims jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
begin
    with wanted as materialized (
        select position - 1 as position, w.*, jsonb_array_length(w.events) as length
        from jsonb_array_elements(claims) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                session_id text, user_id text, server text, lease_seconds double precision, events jsonb,
                spent_since timestamptz)
    ), held as materialized (
        select s.session_id, s.user_id, s.last_seq from sessions as s
        where s.session_id = any (array(select w.session_id from wanted as w))
        for no key update skip locked
    ), taken as (
        update sessions as s set
            status = 'active', end_time = null, duration_seconds = null, end_reason = null,
            summary_status = null, epoch = s.epoch + 1, owner = w.server,
            lease_until = clock_timestamp() + make_interval(secs => w.lease_seconds),
            last_seq = case when h.last_seq = 0 then w.length else h.last_seq end
        from wanted as w join held as h using (session_id)
        where s.session_id = w.session_id and h.user_id = w.user_id
        returning s.session_id, s.epoch, s as session
    ), started as materialized (
        select w.position, w.session_id, w.events, t.epoch
        from wanted as w join held as h using (session_id) join taken as t using (session_id)
        where w.length > 0 and h.last_seq = 0
    ), inserted as (
        insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select b.session_id, place, b.epoch, event ->> 'event_type', event -> 'payload',
            (event ->> 'occurred_at')::timestamptz
        from started as b, jsonb_array_elements(b.events) with ordinality as new (event, place)
        order by b.position, place
    )
    select jsonb_object_agg(w.position, case
        when t.session_id is not null then duologue_claimed_json(t.session) || jsonb_build_object(
            'started', b.position is not null,
            'tokens_spent', case when w.spent_since is not null then
                duologue_tokens_spent(w.user_id, w.spent_since) end)
        -- Of another user; only if that is certain, since the row may be locked or just gone.
        when h.user_id <> w.user_id then 'null'
        else '"locked"' end) into answers
    from wanted as w left join held as h using (session_id) left join taken as t using (session_id)
        left join started as b on b.position = w.position;
    return answers;
end $$;

-- Endings, as in version 2. The job of one that is repeated is read; of all others it is what was inserted.
create or replace function duologue_write_ends(ends jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    stored  bigint[];
    answers jsonb;
    jobs    jsonb;
begin
    with wanted as materialized (
        select position, w.*, w.events -> -1 as last_event,
            (w.events -> -1 ->> 'occurred_at')::timestamptz as ended_at,
            w.after_seq + jsonb_array_length(w.events) as new_last
        from jsonb_array_elements(ends) with ordinality as given (item, position),
            jsonb_to_record(item) as w (
                session_id text, user_id text, server text, epoch bigint, after_seq bigint, events jsonb,
                worker text, lease_seconds double precision)
    ), held as materialized (
        select s.session_id, s.user_id, s.owner, s.epoch, s.status, s.last_seq
        from sessions as s
        where s.session_id = any (array(select w.session_id from wanted as w))
        for no key update skip locked
    ), fit as materialized (
        select w.* from wanted as w join held as h using (session_id)
        where h.user_id = w.user_id and h.owner = w.server and h.epoch = w.epoch
            and h.status = 'active' and h.last_seq = w.after_seq
    ), ended as (
        update sessions as s set
            last_seq = f.new_last, status = 'ended', end_time = f.ended_at,
            duration_seconds =
                round(greatest(extract(epoch from f.ended_at - s.start_time)::numeric, 0), 3),
            end_reason = f.last_event -> 'payload' ->> 'reason', summary_status = 'pending',
            owner = null, lease_until = clock_timestamp()
        from fit as f where s.session_id = f.session_id
    ), inserted as (
        insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select f.session_id, f.after_seq + place, f.epoch, event ->> 'event_type', event -> 'payload',
            (event ->> 'occurred_at')::timestamptz
        from fit as f, jsonb_array_elements(f.events) with ordinality as new (event, place)
        order by f.position, place
    ), undrafted as (
        delete from session_drafts as d
        where d.session_id = any (array(select f.session_id from fit as f))
    ), queued as (
        insert into session_jobs (session_id, user_id, last_seq, worker, attempt, due_at)
        select f.session_id, f.user_id, f.new_last, f.worker,
            case when f.worker is null then 0 else 1 end,
            clock_timestamp() + make_interval(secs => coalesce(f.lease_seconds, 0))
        from fit as f
        order by f.position
        returning id, session_id, user_id, last_seq, worker, attempt, uncounted
    )
    select coalesce(array_agg(f.position), '{}'),
        jsonb_object_agg(f.position - 1, to_jsonb(q)) filter (where q.worker is not null)
    into stored, jobs
    from fit as f join queued as q using (session_id);
    jobs := coalesce(jobs, '{}');
    if cardinality(stored) = jsonb_array_length(ends) then
        return jobs;
    end if;
    answers := duologue_unstored(ends, stored);
    select answers || jobs || coalesce(jsonb_object_agg(position - 1, jsonb_build_object(
        'id', j.id, 'session_id', j.session_id, 'user_id', j.user_id, 'last_seq', j.last_seq,
        'worker', j.worker, 'attempt', j.attempt, 'uncounted', j.uncounted)), '{}') into answers
    from jsonb_array_elements(ends) with ordinality as given (item, position),
        jsonb_to_record(item) as w (session_id text, after_seq bigint, events jsonb, worker text),
        session_jobs as j
    where position <> all (stored) and not answers ? (position - 1)::text
        and j.session_id = w.session_id and j.last_seq = w.after_seq + jsonb_array_length(w.events)
        and j.worker = w.worker and j.attempt = 1 and j.outcome is null;
    return answers;
end $$;

-- The results of jobs, as in version 2.
create or replace function duologue_write_results(results jsonb) returns jsonb
language plpgsql set search_path from current set enable_seqscan = off as $$
declare
    answers jsonb;
    others  jsonb;
begin
    with wanted as materialized (
        select position - 1 as position, w.*
        from jsonb_array_elements(results) with ordinality as given (item, position),
            jsonb_to_record(item) as w (id bigint, worker text, attempt integer, event jsonb)
    ), jobs as materialized (
        select j.id, j.session_id, j.last_seq, j.worker, j.attempt
        from session_jobs as j
        where j.id = any (array(select w.id from wanted as w)) and j.outcome is null
        for no key update skip locked
    ), held as materialized (
        select s.session_id, s.status, s.last_seq, s.epoch from sessions as s
        where s.session_id = any (array(select j.session_id from jobs as j))
        for no key update skip locked
    ), fit as materialized (
        select w.position, w.id, w.event, h.session_id, h.epoch, j.last_seq,
            case when h.status = 'ended' and h.last_seq = j.last_seq
                then 'applied' else 'superseded' end as outcome
        from wanted as w join jobs as j using (id, worker, attempt) join held as h using (session_id)
    ), completed as (
        update sessions as s set
            status = 'completed', last_seq = s.last_seq + 1,
            summary = f.event -> 'payload' ->> 'summary',
            summary_status = f.event -> 'payload' ->> 'status'
        from fit as f where s.session_id = f.session_id and f.outcome = 'applied'
    ), inserted as (
        insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
        select f.session_id, f.last_seq + 1, f.epoch, f.event ->> 'event_type', f.event -> 'payload',
            (f.event ->> 'occurred_at')::timestamptz
        from fit as f where f.outcome = 'applied'
        order by f.position
    ), finished as (
        update session_jobs as j set outcome = f.outcome, finished_at = clock_timestamp()
        from fit as f where j.id = f.id
    )
    select coalesce(jsonb_object_agg(f.position, f.outcome), '{}') into answers from fit as f;
    if (select count(*) from jsonb_object_keys(answers)) < jsonb_array_length(results) then
        -- Finished before, by this very attempt: a repetition. Or this attempt still has it, so it was locked.
        select jsonb_object_agg(position - 1, coalesce((
            select coalesce(j.outcome, 'locked') from session_jobs as j
            where j.id = w.id and j.worker = w.worker and j.attempt = w.attempt
        ), 'conflict')) into others
        from jsonb_array_elements(results) with ordinality as given (item, position),
            jsonb_to_record(item) as w (id bigint, worker text, attempt integer)
        where not answers ? (position - 1)::text;
        answers := answers || others;
    end if;
    return answers;
end $$;

-- As in version 1, with plans that are kept.
create or replace function duologue_read(
    for_user text, for_session text, after_seq bigint, at_most integer
) returns jsonb
language plpgsql stable security definer set search_path from current as $$
begin
    return (
        select coalesce(jsonb_agg(jsonb_build_object(
            'seq', page.seq,
            'occurred_at',
                to_char(page.occurred_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
            'event_type', page.event_type, 'payload', page.payload
        ) order by page.seq), '[]')
        from (
            select e.* from session_events as e join sessions as s on s.session_id = e.session_id
            where e.session_id = for_session and s.user_id = for_user and e.seq > after_seq
            order by e.seq limit at_most
        ) as page
    );
end $$;

-- As in version 1, with plans that are kept.
create or replace function duologue_tokens_spent(for_user text, since timestamptz) returns jsonb
language plpgsql stable security definer set search_path from current as $$
begin
    return (
        select to_jsonb(coalesce(sum(
            coalesce((e.payload #>> '{usage,input_tokens}')::bigint, 0)
                + coalesce((e.payload #>> '{usage,output_tokens}')::bigint, 0)
        ), 0))
        from sessions as s
        join session_events as e
            on e.session_id = s.session_id and e.event_type = 'assistant_message'
                and e.occurred_at >= since
        where s.user_id = for_user and (s.end_time is null or s.end_time >= since)
    );
end $$;

select duologue_secure_table('servers');
select duologue_secure_functions();
select duologue_admit_api_roles();
$migration$);

drop function pg_temp.duologue_apply, pg_temp.duologue_upgrade;

-- Rights are granted again each time, since the roles and `auth.uid()` may have been added since.
select duologue_secure_functions();
select duologue_admit_api_roles();

-- Lets Supabase's API see the functions at once.
notify pgrst, 'reload schema';

select version, description, installed_on from duologue_migrations order by version;

commit;
