-- What the calls of one session cost Postgres, alone and in batches, and what its rows cost at least.
--
--     createdb scratch && DATABASE_URL=postgres:///scratch duologue migrate
--     psql -X -q -d scratch -f bench/statements.sql
--
-- It writes 5,000 sessions into the database and leaves them there. Each session is new, has one turn of one
-- token, ends, and is summarised, as in scenario S5. Times are microseconds per session, within one connection,
-- without commits and without the network.

-- One call of duologue_write. Returns its answers.
create function pg_temp.write(kind text, items jsonb, inout spent interval, out answers jsonb)
language plpgsql as $$
declare
    batch   constant jsonb := jsonb_build_object(kind, items);
    started constant timestamptz := clock_timestamp();
begin
    answers := duologue_write(batch) -> kind;
    spent := spent + (clock_timestamp() - started);
end $$;

create function pg_temp.events(variadic types text[]) returns jsonb language sql as $$
    select jsonb_agg(jsonb_build_object('event_type', type, 'occurred_at', now(), 'payload',
        '{"text": "What can you do?", "usage": {"input_tokens": 30, "output_tokens": 1}}'::jsonb))
    from unnest(types) as type
$$;

-- What every write under a lease names, of each session.
create function pg_temp.under_lease(ids text[], after_seq integer, rest jsonb) returns jsonb
language sql as $$
    select jsonb_agg(rest || jsonb_build_object(
        'session_id', id, 'user_id', 'user-' || id, 'server', 'server', 'epoch', 1,
        'after_seq', after_seq))
    from unnest(ids) as id
$$;

-- Sessions in batches of a size, by the calls that the server makes.
create procedure pg_temp.calls(batch_size integer, sessions integer) language plpgsql as $$
declare
    ids     text[];
    answers jsonb;
    jobs    jsonb;
    id      text;
    started timestamptz;
    claims  interval = '0'; messages interval = '0'; dones   interval = '0'; ends interval = '0';
    reads   interval = '0'; results  interval = '0'; job_claims interval = '0';
begin
    for batch in 1..sessions / batch_size loop
        ids := array(select gen_random_uuid()::text from generate_series(1, batch_size));
        select * into claims, answers from pg_temp.write('claims', pg_temp.under_lease(ids, 0,
            jsonb_build_object('agent', 'assistant', 'lease_seconds', 3, 'started_at', now(),
                'spent_since', now(),
                'events', pg_temp.events('session_started', 'client_connected'))), claims);
        select * into messages, answers from pg_temp.write('appends', pg_temp.under_lease(ids, 2,
            jsonb_build_object('events', pg_temp.events('user_message', 'routed'))), messages);
        select * into dones, answers from pg_temp.write('appends', pg_temp.under_lease(ids, 4,
            jsonb_build_object('events', pg_temp.events('assistant_message'))), dones);
        select * into ends, answers from pg_temp.write('ends', pg_temp.under_lease(ids, 5,
            jsonb_build_object(
                'events', pg_temp.events('client_disconnected', 'session_ended'))), ends);
        select * into job_claims, answers from pg_temp.write('job_claims', (
            select jsonb_agg('{"worker": "worker", "lease_seconds": 60}'::jsonb)
            from unnest(ids)), job_claims);
        select jsonb_agg(job || jsonb_build_object(
            'event', pg_temp.events('session_summarized') -> 0)) into jobs
        from jsonb_each(answers) as answer (position, job);
        foreach id in array ids loop
            started := clock_timestamp();
            perform duologue_read('user-' || id, id, 0, 100);
            reads := reads + (clock_timestamp() - started);
        end loop;
        select * into results, answers from pg_temp.write('results', jobs, results);
        if answers ->> (batch_size - 1)::text is distinct from 'applied' then
            raise exception 'a result was not applied: %', answers;
        end if;
        commit;
    end loop;
    raise notice 'batches of %: claim %, message %, answer %, end %, claim of the job %, read %, result %',
        batch_size, pg_temp.micros(claims, sessions), pg_temp.micros(messages, sessions),
        pg_temp.micros(dones, sessions), pg_temp.micros(ends, sessions),
        pg_temp.micros(job_claims, sessions), pg_temp.micros(reads, sessions),
        pg_temp.micros(results, sessions);
end $$;

create function pg_temp.micros(spent interval, sessions integer) returns integer language sql as $$
    select (extract(epoch from spent) * 1e6 / sessions)::integer
$$;

-- The same rows, by the shortest statements that write them: nothing is checked, answered or parsed. Constraints,
-- indexes and row level security are the same.
create procedure pg_temp.rows(batch_size integer, sessions integer) language plpgsql as $$
declare
    ids     text[];
    started timestamptz;
    spent   interval = '0';
begin
    for batch in 1..sessions / batch_size loop
        ids := array(select gen_random_uuid()::text from generate_series(1, batch_size));
        started := clock_timestamp();
        insert into sessions (session_id, user_id, start_time, agent, owner, lease_until, last_seq)
        select id, 'user-' || id, now(), 'assistant', 'server', now(), 2 from unnest(ids) as id;
        call pg_temp.insert_events(ids, 1, 2, 'client_connected');
        update sessions set last_seq = 4 where session_id = any (ids);
        call pg_temp.insert_events(ids, 3, 4, 'user_message');
        update sessions set last_seq = 5 where session_id = any (ids);
        call pg_temp.insert_events(ids, 5, 5, 'assistant_message');
        update sessions set last_seq = 7, status = 'ended', end_time = now(), owner = null
        where session_id = any (ids);
        call pg_temp.insert_events(ids, 6, 7, 'session_ended');
        insert into session_jobs (session_id, user_id, last_seq, worker, attempt, due_at)
        select id, 'user-' || id, 7, 'worker', 1, now() from unnest(ids) as id;
        update sessions set last_seq = 8, status = 'completed', summary = '- Nothing.'
        where session_id = any (ids);
        call pg_temp.insert_events(ids, 8, 8, 'session_summarized');
        update session_jobs set outcome = 'applied', finished_at = now() where session_id = any (ids);
        spent := spent + (clock_timestamp() - started);
        commit;
    end loop;
    raise notice 'batches of %: the rows alone %', batch_size, pg_temp.micros(spent, sessions);
end $$;

create procedure pg_temp.insert_events(ids text[], first integer, last integer, type text)
language plpgsql as $$
begin
    insert into session_events (session_id, seq, epoch, event_type, payload, occurred_at)
    select id, seq, 1, type, '{"text": "What can you do?"}', now()
    from unnest(ids) as id, generate_series(first, last) as seq;
end $$;

-- The first run warms up: plans, buffers, and indexes that are no longer empty.
call pg_temp.calls(8, 800);
\echo
call pg_temp.calls(1, 800);
call pg_temp.calls(8, 800);
call pg_temp.calls(64, 832);
call pg_temp.rows(1, 800);
call pg_temp.rows(8, 800);
call pg_temp.rows(64, 832);
