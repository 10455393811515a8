-- Leases per server: a server renews one row a second, and not a row for each of its sessions. A session is
-- held as long as the lease of its owner lasts.
--
-- Builds that need version 1 or 2 call duologue_claim, duologue_renew, duologue_claim_lapsed with four
-- arguments, and duologue_write, so they stay, and do the same for the servers that call them.
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

create or replace function duologue_claim(
    for_session text, for_user text, for_agent text, by_server text, lease_seconds double precision,
    started_at timestamptz
) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
    held sessions;
begin
    perform duologue_start_leases(
        jsonb_build_array(jsonb_build_object('server', by_server, 'lease_seconds', lease_seconds)));
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

-- As in version 2, except that a claim starts the first lease of its server.
create or replace function duologue_write(batch jsonb) returns jsonb
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
        perform duologue_start_leases(batch -> 'claims');
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

select duologue_secure_table('servers');
select duologue_secure_functions();
select duologue_admit_api_roles();
