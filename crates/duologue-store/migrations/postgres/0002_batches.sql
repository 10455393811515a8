-- Writes in batches: a server sends the writes of all its sessions that came while its last batch was under
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
