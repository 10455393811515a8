"""A chat server as it is usually written in Python: FastAPI, asyncpg, and OpenAI's SDK.

Each message and each answer is stored by a statement of its own, and a summary is made when the client has gone.
Arguments: the base URL of the model's API, and the URL of the Postgres database.
"""

import asyncio
import socket
import sys
from contextlib import asynccontextmanager

import asyncpg
import uvicorn
import uvloop
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from openai import AsyncOpenAI

UPSTREAM, DATABASE = sys.argv[1:]

TABLES = """
create table sessions (
    session_id text primary key,
    user_id    text not null,
    started_at timestamptz not null default now(),
    ended_at   timestamptz,
    summary    text
);
create table messages (
    session_id text not null references sessions,
    turn       integer not null,
    role       text not null,
    content    text not null,
    created_at timestamptz not null default now(),
    primary key (session_id, turn, role)
);
"""

INSERT = "insert into messages (session_id, turn, role, content) values ($1, $2, $3, $4)"

summaries: set[asyncio.Task] = set()


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.model = AsyncOpenAI(base_url=UPSTREAM, api_key="bench")
    app.state.pool = await asyncpg.create_pool(DATABASE, min_size=1, max_size=10)
    await app.state.pool.execute(TABLES)
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


async def stream(messages):
    return await app.state.model.chat.completions.create(
        model="gpt-4o-mini", messages=messages, stream=True, stream_options={"include_usage": True}
    )


async def turn(websocket: WebSocket, session_id: str, number: int, history: list, frame: dict):
    turn_id = f"turn-{number}"
    text = frame["message"]
    await app.state.pool.execute(INSERT, session_id, number, "user", text)
    receipt = {"type": "user_message", "turn_id": turn_id, "text": text, "id": frame.get("id")}
    await websocket.send_json(receipt)
    history.append({"role": "user", "content": text})
    answer, index = [], 0
    async for chunk in await stream(history):
        token = chunk.choices[0].delta.content if chunk.choices else None
        if token:
            answer.append(token)
            await websocket.send_json({"type": "token", "turn_id": turn_id, "index": index, "token": token})
            index += 1
    text = "".join(answer)
    await app.state.pool.execute(INSERT, session_id, number, "assistant", text)
    history.append({"role": "assistant", "content": text})
    await websocket.send_json({"type": "done", "turn_id": turn_id, "text": text, "finish_reason": "stop"})


async def summarize(session_id: str, number: int, history: list):
    transcript = "\n".join(f"{message['role']}: {message['content']}" for message in history[1:])
    prompt = [
        {"role": "system", "content": "Summarise the conversation."},
        {"role": "user", "content": transcript},
    ]
    parts = []
    async for chunk in await stream(prompt):
        if chunk.choices and chunk.choices[0].delta.content:
            parts.append(chunk.choices[0].delta.content)
    summary = "".join(parts)
    pool = app.state.pool
    await pool.execute("update sessions set summary = $2 where session_id = $1", session_id, summary)
    await pool.execute(INSERT, session_id, number, "summary", summary)


@app.websocket("/ws/session/{session_id}")
async def session(websocket: WebSocket, session_id: str, user_id: str = "anonymous"):
    await websocket.accept()
    pool = app.state.pool
    await pool.execute("insert into sessions (session_id, user_id) values ($1, $2)", session_id, user_id)
    await websocket.send_json({"type": "session_started", "session_id": session_id, "user_id": user_id})
    history = [{"role": "system", "content": "You are an assistant. Answer briefly."}]
    number = 0
    try:
        while True:
            frame = await websocket.receive_json()
            number += 1
            await turn(websocket, session_id, number, history, frame)
    except WebSocketDisconnect:
        pass
    await pool.execute("update sessions set ended_at = now() where session_id = $1", session_id)
    if number:
        task = asyncio.create_task(summarize(session_id, number + 1, history))
        summaries.add(task)
        task.add_done_callback(summaries.discard)


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(app, log_level="warning", access_log=False, ws_max_queue=256)
    server = uvicorn.Server(config)

    async def serve():
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        await serving

    uvloop.run(serve())


if __name__ == "__main__":
    main()
