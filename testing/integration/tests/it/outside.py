"""Talks to a server as a stranger's program would: two turns, then a clean close."""

import asyncio
import json
import sys

import websockets


async def answer_in_json(socket):
    text = ""
    async for frame in socket:
        frame = json.loads(frame)
        if frame["type"] == "token":
            text += frame["token"]
        if frame["type"] == "done":
            assert frame["text"] == text, (frame, text)
            return text


async def answer_in_text(socket):
    text = ""
    async for piece in socket:
        if piece == "[END_OF_RESPONSE]":
            return text
        text += piece


async def main(url, dialect):
    answer = answer_in_json if dialect == "json" else answer_in_text
    async with websockets.connect(url) as socket:
        started = json.loads(await socket.recv())
        assert started["type"] == "session_started", started
        await socket.send("What is my account balance?")
        assert (await answer(socket)).endswith("?")
        await socket.send(json.dumps({"message": "My user_id is user-1"}))
        assert "user-1" in await answer(socket)


asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), timeout=20))
