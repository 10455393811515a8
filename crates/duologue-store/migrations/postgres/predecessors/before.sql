-- Sets aside the tables of this server's predecessors, so that the schema (0001) can be created.
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
