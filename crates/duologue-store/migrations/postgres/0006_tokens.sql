-- What a user has used, for the limits of a day.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Few events are the end of an answer, and of those only the latest are asked for.
create index session_events_answers on session_events (session_id, occurred_at)
    where event_type = 'assistant_message';

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

select duologue_secure_functions();
