-- Leases per server: a server renews one row a second, and not a row for each of its sessions. A session is
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
