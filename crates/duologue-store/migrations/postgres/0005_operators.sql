-- What operators see and do: all sessions as they are kept, and the jobs they left. `Inspect` in the
-- engine says what each function must do. Nothing that serves users calls them.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- How a job stands. Not for callers.
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
        -- A failure matters as long as the session has not gone on, and nobody tries again.
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
        'state', duologue_job_state(j), 'attempt', j.attempt, 'worker', j.worker,
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

-- All in one statement, so that it is of one moment.
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

-- How the job stood that needs no other attempt, or what was done about it; null: there is none.
create function duologue_try_job_again(of_job bigint) returns jsonb
language plpgsql security definer set search_path from current as $$
declare
    job     session_jobs;
    state   text;
    new_job bigint;
begin
    -- In the order in which a worker locks them that finishes it.
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
        -- A job of its own: whoever lost the answer to the old one's end can still ask for it.
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

select duologue_secure_functions();
