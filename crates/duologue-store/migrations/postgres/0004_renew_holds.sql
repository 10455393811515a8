-- Renewing names what is renewed. The function that renewed all that a server holds stays for servers
-- of the version before.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Renews what a server still holds of `holds`, each with its `session_id` and `epoch`, and answers
-- those that are lost: claimed anew since, or gone.
create function duologue_renew_holds(
    by_server text, holds jsonb, lease_seconds double precision
) returns jsonb
language sql security definer set search_path from current as $$
    with named as materialized (
        select session_id, epoch from jsonb_to_recordset(holds) as h (session_id text, epoch bigint)
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
    )
$$;

select duologue_secure_functions();
