
drop function pg_temp.duologue_apply, pg_temp.duologue_upgrade;

-- Rights are granted again each time, since the roles and `auth.uid()` may have been added since.
select duologue_secure_functions();
select duologue_admit_api_roles();

-- Lets Supabase's API see the functions at once.
notify pgrst, 'reload schema';

select version, description, installed_on from duologue_migrations order by version;

commit;
