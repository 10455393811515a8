-- Copies the rows of the tables that before.sql has set aside, so that the server can read them.
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
