"""Clients who leave, or do not read: what they held is free again, and it is no error of ours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send
from websockets.frames import Frame, Opcode

from pipelines.config import RunConfig
from pipelines.config_sections import ServeConfig
from pipelines.serving import server
from pipelines.serving.api import transcriptions
from pipelines.serving.web import audio_url, exchange, middleware
from pipelines.serving.web.sse import EventStream
from tests.pipelines.serving.conftest import Make, form, voice, wav

HANDSHAKE = b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
HANDSHAKE += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"


def until(check: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.01)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Of the access log."""
    return [
        json.loads(record.getMessage()) for record in caplog.records if record.name == "scriptorium.access"
    ]


def test_a_stream_that_is_not_read_loses_its_place(
    serve: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(max_streams=3)
    monkeypatch.setattr(exchange, "SEND_SECONDS", 0.3)
    update = {
        "type": "session.update",
        "session": {"type": "transcription", "input_audio_transcription": {"prompt": "\u8a9e" * 10_000}},
    }
    frame = Frame(Opcode.TEXT, json.dumps(update, ensure_ascii=False).encode()).serialize(mask=True)
    with caplog.at_level(logging.INFO), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(2)
        client.connect(("127.0.0.1", served.port))
        client.sendall(HANDSHAKE)
        with contextlib.suppress(OSError):  # it is over before all is said
            for _ in range(600):  # 18 MB of answers
                client.sendall(frame)
        until(lambda: served.application.active == 0)
        until(lambda: lines(caplog))
    assert [line["status"] for line in lines(caplog)] == [499]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_events_that_are_not_read_let_go_what_they_hold(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exchange, "SEND_SECONDS", 0.05)
    freed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        held = AsyncExitStack()
        held.callback(freed.append, "place")

        async def events() -> AsyncGenerator[bytes]:
            try:
                while True:
                    yield b"data: 1\n\n"
            finally:
                freed.append("events")

        await EventStream(events(), held)(scope, receive, send)

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            if len(sent) == 3:
                await asyncio.Event().wait()
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/healthz", "headers": [(b"host", b"localhost")]}
        await asyncio.wait_for(middleware.AccessMiddleware(app, ServeConfig())(scope, never, send), 10)
        return len(sent)

    with caplog.at_level(logging.INFO):
        assert asyncio.run(main()) == 3
    assert sorted(freed) == ["events", "place"] and [line["status"] for line in lines(caplog)] == [499]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("waits", ["for memory", "for the address"])
def test_a_client_who_leaves_while_his_audio_is_not_here_frees_his_place(
    serve: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, waits: str
) -> None:
    served, begun = serve(), threading.Event()
    assert served.application.service is not None

    async def fetch(*arguments: Any) -> None:
        begun.set()
        await asyncio.sleep(60)

    @asynccontextmanager
    async def reserve(amount: float) -> AsyncIterator[None]:
        await fetch()
        yield

    monkeypatch.setattr(audio_url, "fetched", fetch)
    if waits == "for memory":
        monkeypatch.setattr(served.application.service.json_memory, "take", reserve)
    part = {"type": "audio_url", "audio_url": "https://example.com/a.wav"}
    body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": [part]}]}).encode()
    with caplog.at_level(logging.INFO):
        with socket.create_connection(("127.0.0.1", served.port), 20) as client:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body)
            assert begun.wait(10) and served.application.active == 1
        until(lambda: lines(caplog))
    assert [line["status"] for line in lines(caplog)] == [499] and served.application.active == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_nothing_goes_on_of_a_stream_that_is_left() -> None:
    class Endless:
        """A service that never has a text."""

        async def transcript(self, *arguments: Any) -> None:
            await asyncio.sleep(60)

    async def main() -> list[Any]:
        nobody: Any = Endless()
        texts = transcriptions.stream_texts(nobody, nobody, nobody, nobody)
        waiting = asyncio.ensure_future(anext(texts))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(main()) == []


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="a setting of Linux")
def test_the_kernel_ends_connections_that_are_not_read() -> None:
    with server._bound_socket(RunConfig.model_validate({"serve": {"port": 0}})) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


@pytest.mark.parametrize("kind", ["form", "json"])
def test_a_broken_off_upload_is_no_error(serve: Make, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    served = serve()
    content, body = form({"model": "fake"}, wav(voice(1)))
    path = "/v1/audio/transcriptions"
    if kind == "json":
        content, path = "application/json", "/v1/chat/completions"
        body = json.dumps({"a": base64.b64encode(bytes(1000)).decode()}).encode()
    with caplog.at_level(logging.INFO):
        with socket.create_connection(("127.0.0.1", served.port), 20) as client:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content}\r\nContent-Length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[: len(body) // 2])
            until(lambda: served.application.active == 1)
        until(lambda: lines(caplog))
    assert [line["status"] for line in lines(caplog)] == [499] and served.application.active == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_large_event_is_sent_in_pieces() -> None:
    """Each has the time that a client may leave one unread: who reads slowly is not one who does not read."""
    sent: list[bytes] = []

    async def events() -> AsyncGenerator[bytes]:
        yield b"x" * 150_000

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    asyncio.run(EventStream(events(), AsyncExitStack())({"type": "http"}, never, send))
    assert [len(piece) for piece in sent if piece] == [65_536, 65_536, 18_928]
