-- Alters the tables of a database that was made before the first release, by seven migrations, so that the
-- schema (0001) can complete them: columns that are new, and without the functions, which it creates again.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- Each row gets an id of its own, since the default is random.
alter table sessions
    add column tenant text not null default '',
    add column log_id text not null default replace(gen_random_uuid()::text, '-', '');

-- All rows get the transaction of this upgrade; among them the order is that of their ids.
alter table session_events add column txid xid8 not null default pg_current_xact_id();

alter table session_jobs add column uncounted integer not null default 0;

do $$
declare
    the_function regprocedure;
begin
    for the_function in
        select oid from pg_proc
        where pronamespace = quote_ident(current_schema())::regnamespace and proname like 'duologue\_%'
    loop
        execute format('drop function %s', the_function);
    end loop;
end $$;

-- The numbers begin again.
delete from duologue_migrations;
