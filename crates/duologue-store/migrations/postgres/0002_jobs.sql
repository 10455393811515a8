-- Jobs, and the ending that makes them.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

create table session_jobs (
    id          bigint      not null generated always as identity primary key,
    session_id  text        not null references sessions (session_id) on delete cascade,
    user_id     text        not null,
    last_seq    bigint      not null,
    attempt     integer     not null default 0,
    worker      text,
    due_at      timestamptz not null,
    outcome     text        check (outcome in ('applied', 'superseded')),
    finished_at timestamptz,
    last_error  text,

    unique (session_id, last_seq)
);

comment on table session_jobs is
    'Work that outlives its session. So far there is one kind: make the session''s summary.';
comment on column session_jobs.last_seq is
    'The session_ended that it is about. If the log has gone on since, the result is dropped.';
comment on column session_jobs.attempt is
    'Raised by every claim, before the work: a job that kills its worker runs out of attempts too.';
comment on column session_jobs.worker is
    'Who has it; null when nobody does. Together with the attempt it fences the result.';
comment on column session_jobs.due_at is
    'When it may be claimed next: at once, after a delay, or when its worker''s lease lapses.';
comment on column session_jobs.outcome is 'Null while the job is open.';
comment on column session_jobs.last_error is 'Why the last attempt failed, for operators.';

create index session_jobs_due on session_jobs (due_at, id) where outcome is null;

-- False: another writer came first.
create function duologue_end(
    for_session text, for_user text, at_epoch bigint, after_seq bigint, new_events jsonb
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
    where session_id = for_session and user_id = for_user and epoch = at_epoch
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
        'worker', j.worker, 'attempt', j.attempt
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
create function duologue_retry_job(
    of_job bigint, by_worker text, at_attempt integer, delay_seconds double precision, why text
) returns boolean
language plpgsql security definer set search_path from current as $$
begin
    update session_jobs set
        worker = null, last_error = why,
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

select duologue_secure_table('session_jobs');
select duologue_secure_functions();
