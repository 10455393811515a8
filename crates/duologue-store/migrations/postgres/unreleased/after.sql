-- Completes the logs of a database that was made before the first release: clients find the id of a log in
-- its first event.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

select duologue_write_log_ids();
