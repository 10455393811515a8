-- Duologue's tables and functions in Postgres: paste all of it into Supabase's SQL editor and run it.
--
-- It may be run again at any time: what is in place is left alone. It is one transaction: if anything
-- fails, nothing has changed. A database that was made before the first release is brought over, and so
-- are tables `sessions` and `session_events` of this server's predecessors; docs/operations.md says what
-- becomes of them. `duologue migrate` does the same over a connection, and either may follow the other.
--
-- Written by `cargo xtask schema` from crates/duologue-store/migrations/postgres; edits here are lost.

begin;

-- ==== The only line to change: the schema. Tell the server with SUPABASE_SCHEMA. ====================
set local duologue.schema = 'public';
-- ====================================================================================================

-- Not behind a query that runs for hours, while all others queue up behind us.
set local lock_timeout = '10s';
-- One migration at a time.
select pg_advisory_xact_lock(hashtext('duologue_migrations'));

do $$
declare
    chosen constant text := current_setting('duologue.schema');
begin
    -- Asked first, since only some may create schemas.
    if to_regnamespace(quote_ident(chosen)) is null then
        execute format('create schema %I', chosen);
    end if;
    perform set_config('search_path', quote_ident(chosen) || ', pg_temp', true);
    if to_regclass('duologue_migrations') is not null and not (
        select pg_has_role(relowner, 'usage') from pg_class where oid = to_regclass('duologue_migrations')
    ) then
        raise exception 'the tables in schema % belong to another role than %', chosen, current_user
            using hint = 'Nothing was changed. Run this as the role that has made them.';
    end if;
end $$;

create table if not exists duologue_migrations (
    version        bigint      primary key,
    description    text        not null,
    installed_on   timestamptz not null default now(),
    success        boolean     not null,
    checksum       bytea       not null,
    execution_time bigint      not null
);

-- Runs a script that brings other tables over, if `find.sql` has found such.
create or replace function pg_temp.duologue_upgrade(kind text, script text)
returns text language plpgsql as $$
begin
    if current_setting('duologue.found') <> kind then
        return kind || ': not found';
    end if;
    execute replace(script, e'\r', '');
    return kind || ': brought over';
end $$;

-- Applies a migration, unless it has been.
create or replace function pg_temp.duologue_apply(its_version bigint, its_name text, given text)
returns text language plpgsql as $$
declare
    -- Editors change line breaks; the checksum must not depend on that.
    script   constant text := replace(given, e'\r', '');
    its_sum  constant bytea := sha384(convert_to(script, 'UTF8'));
    previous duologue_migrations;
begin
    select * into previous from duologue_migrations where version = its_version;
    if not found then
        execute script;
        insert into duologue_migrations (version, description, success, checksum, execution_time)
        values (its_version, its_name, true, its_sum, -1);
        return its_name || ': applied';
    end if;
    if not previous.success or previous.checksum <> its_sum then
        raise exception 'migration % (%) is not what was applied here on %',
                its_version, its_name, previous.installed_on
            using hint = 'Nothing was changed. Take the schema.sql of the release that you run.';
    end if;
    return its_name || ': in place';
end $$;
