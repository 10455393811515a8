-- What a new Supabase project has, as far as our tables meet it: the roles, which the whole cluster
-- shares, `auth.uid()`, and rights in advance on all that will ever be in `public`.
select pg_advisory_lock(20261121);
do $$
declare
    role_and_attributes text;
begin
    foreach role_and_attributes in array
        '{anon nologin, authenticated nologin, service_role nologin bypassrls}'::text[]
    loop
        begin
            execute 'create role ' || role_and_attributes;
        exception when duplicate_object or unique_violation then null;
        end;
    end loop;
end $$;
select pg_advisory_unlock(20261121);

create schema auth;
grant usage on schema auth, public to anon, authenticated, service_role, duologue;
create function auth.uid() returns uuid language sql stable as $$
    select (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub')::uuid
$$;
alter default privileges for role duologue in schema public
    grant all on tables to anon, authenticated, service_role;
alter default privileges for role duologue in schema public
    grant all on functions to anon, authenticated, service_role;
