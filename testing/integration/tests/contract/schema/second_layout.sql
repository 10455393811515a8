-- The second of the two layouts that people have, filled with what is found there and what might be.
create table sessions (
    session_id text primary key,
    user_id text,
    start_time timestamptz,
    end_time timestamptz,
    duration_seconds double precision,
    summary text,
    -- A column of the owner's own.
    channel text
);
create table session_events (
    id bigserial primary key,
    session_id text,
    ts timestamptz,
    event_type text,
    role text,
    content text,
    meta jsonb
);

insert into sessions values
    ('chat-1', 'aaaaaaaa-0000-4000-8000-00000000000a', '2025-12-01 08:00:00+00', '2025-12-01 08:02:00+00', 119.5,
        'About the weather.', 'web'),
    ('chat-2', null, '2025-12-01 09:00:00+00', null, null, null, null),
    -- Names that ours may not have.
    ('what a name/', e'two\nlines', '2025-12-01 09:30:00+00', '2025-12-01 09:20:00+00', 'NaN', ' ', 'phone');

insert into session_events (session_id, ts, event_type, role, content, meta) values
    ('chat-1', '2025-12-01 08:00:03+00', 'message', 'assistant', 'It rains.', '{"model": "gpt-4o-mini", "latency_ms": 900}'),
    ('chat-1', '2025-12-01 08:00:01+00', 'message', 'user', 'Does it rain?', null),
    ('chat-1', '2025-12-01 08:00:02+00', 'tool_call', 'assistant', '{"name": "weather", "arguments": {"city": "Bonn"}}', '{}'),
    ('chat-1', '2025-12-01 08:00:02+00', 'message', 'tool', '{"rain": true}', '{"tool_name": "weather"}'),
    ('chat-1', '2025-12-01 08:01:00+00', 'message', 'system', 'Be brief.', null),
    ('chat-2', '2025-12-01 09:00:01+00', 'message', 'user', 'Anyone?', null),
    ('what a name/', null, 'message', 'user', 'hm', null),
    -- The session was deleted, its events were not.
    ('gone', '2025-12-01 07:00:00+00', 'message', 'user', 'remember me', null);
