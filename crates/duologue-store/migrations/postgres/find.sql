-- Finds out what is in the schema, before anything is created or changed: `duologue.found` becomes
-- `ours` (migrations follow the numbers that are applied), `nothing`, `unreleased` (the seven migrations
-- from before the first release) or `predecessors` (tables of this server's predecessors). Anything else
-- is refused.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

do $$
declare
    here       constant regnamespace := quote_ident(current_schema())::regnamespace;
    -- The seven, as `duologue migrate` and schema.sql recorded them.
    unreleased constant text := '0 former_layouts, 1 sessions, 2 jobs, 3 former_rows, 4 renew_holds, '
        '5 operators, 6 tokens';
    applied    text;
    kind       text;
    tables     text;
begin
    if to_regclass('duologue_migrations') is not null then
        select string_agg(version || ' ' || description
                || case when success then '' else ' (failed)' end, ', ' order by version)
        into applied from duologue_migrations;
    end if;
    select string_agg(relname, ', ' order by relname) into tables from pg_class
    where relnamespace = here and relname in
        ('sessions', 'session_events', 'session_drafts', 'session_jobs', 'duologue_installation');

    if applied = unreleased then
        kind := 'unreleased';
    elsif applied = '1 schema' or starts_with(applied, '1 schema, ') then
        kind := 'ours';
    elsif applied is not null then
        raise exception 'schema % has tables of a Duologue that this one does not know (migrations: %)',
                here, applied
            using hint = 'Nothing was changed. Bring them up to date with the build that made them, or choose '
                'another schema.';
    elsif tables is null then
        kind := 'nothing';
    elsif tables ~ '^session(s|_events)(, sessions)?$' then
        kind := 'predecessors';
    else
        raise exception 'schema % already has tables that this script does not know: %', here, tables
            using hint = 'Nothing was changed. Choose another schema, or rename those tables.';
    end if;
    perform set_config('duologue.found', kind, true);
end $$;
