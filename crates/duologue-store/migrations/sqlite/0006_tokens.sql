-- What a user has used, for the limits of a day. Few events are the end of an answer, and of those only
-- the latest are asked for.
create index session_events_answers on session_events (session_id, occurred_at)
    where event_type = 'assistant_message';

create index sessions_user on sessions (user_id, start_time);
