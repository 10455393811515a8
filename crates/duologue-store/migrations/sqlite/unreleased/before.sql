-- Sets aside the tables of a file that was made before the first release, by seven migrations, so that the
-- schema (0001) can be created. SQLite cannot add AUTOINCREMENT or a random default to a table, so rows are
-- copied.
drop index sessions_active;
drop index sessions_user;
drop index session_events_answers;
drop index session_jobs_due;

alter table sessions rename to unreleased_sessions;
alter table session_events rename to unreleased_session_events;
alter table session_drafts rename to unreleased_session_drafts;
alter table session_jobs rename to unreleased_session_jobs;

-- The numbers begin again.
delete from duologue_migrations;
