"""Clients that disconnect or do not read: their resources are freed, and the server logs no error."""

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

HANDSHAKE = (
    b"GET /v1/realtime HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def until(check: Callable[[], Any], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < deadline, f"the condition does not hold after {timeout:g} s"
        time.sleep(0.01)


def access_log(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines of the access log."""
    return [
        json.loads(record.getMessage()) for record in caplog.records if record.name == "scriptorium.access"
    ]


def statuses(caplog: pytest.LogCaptureFixture) -> list[int]:
    """The statuses in the access log."""
    return [line["status"] for line in access_log(caplog)]


def errors(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The log records of errors."""
    return [record for record in caplog.records if record.levelno >= logging.ERROR]


async def never_receive() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def test_a_stream_whose_client_does_not_read_is_closed(
    serve: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    served = serve(max_streams=3)
    monkeypatch.setattr(exchange, "SEND_TIMEOUT", 0.3)
    transcription = {"prompt": "\u8a9e" * 10_000}
    session = {"type": "transcription", "input_audio_transcription": transcription}
    update = {"type": "session.update", "session": session}
    frame = Frame(Opcode.TEXT, json.dumps(update, ensure_ascii=False).encode()).serialize(mask=True)
    with caplog.at_level(logging.INFO), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(2)
        client.connect(("127.0.0.1", served.port))
        client.sendall(HANDSHAKE)
        with contextlib.suppress(OSError):  # the server closes the connection before the last frame
            for _ in range(600):  # 18 MB of responses
                client.sendall(frame)
        until(lambda: served.application.active == 0)
        until(lambda: access_log(caplog))
    assert statuses(caplog) == [499]
    assert not errors(caplog)


def test_an_event_stream_whose_client_does_not_read_frees_its_resources(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exchange, "SEND_TIMEOUT", 0.05)
    freed: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        resources = AsyncExitStack()
        resources.callback(freed.append, "resources")

        async def events() -> AsyncGenerator[bytes]:
            try:
                while True:
                    yield b"data: 1\n\n"
            finally:
                freed.append("events")

        await EventStream(events(), resources)(scope, receive, send)

    async def main() -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            if len(sent) == 3:
                await asyncio.Event().wait()
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/healthz", "headers": [(b"host", b"localhost")]}
        application = middleware.AccessMiddleware(app, ServeConfig())
        await asyncio.wait_for(application(scope, never_receive, send), 60)
        return len(sent)

    with caplog.at_level(logging.INFO):
        assert asyncio.run(main()) == 3
    assert sorted(freed) == ["events", "resources"]
    assert statuses(caplog) == [499]
    assert not errors(caplog)


@pytest.mark.parametrize("waits", ["for memory", "for the URL"])
def test_a_client_that_leaves_before_its_audio_has_arrived_is_499(
    serve: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, waits: str
) -> None:
    served, started = serve(), threading.Event()
    assert served.application.service is not None

    async def never_fetch(*arguments: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    @asynccontextmanager
    async def never_reserve(amount: float) -> AsyncIterator[None]:
        await never_fetch()
        yield

    monkeypatch.setattr(audio_url, "fetch", never_fetch)
    if waits == "for memory":
        monkeypatch.setattr(served.application.service.json_memory, "reserve", never_reserve)
    part = {"type": "audio_url", "audio_url": "https://example.com/a.wav"}
    body = json.dumps({"model": "fake", "messages": [{"role": "user", "content": [part]}]}).encode()
    with caplog.at_level(logging.INFO):
        with socket.create_connection(("127.0.0.1", served.port), 20) as client:
            head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert started.wait(60) and served.application.active == 1
        until(lambda: access_log(caplog))
    assert statuses(caplog) == [499] and served.application.active == 0
    assert not errors(caplog)


def test_a_cancelled_text_stream_leaves_no_task() -> None:
    class EndlessService:
        """A service that never returns a transcript."""

        async def transcript(self, *arguments: Any) -> None:
            await asyncio.Event().wait()

    async def main() -> list[Any]:
        service: Any = EndlessService()
        texts = transcriptions.stream_texts(service, service, service, service)
        waiting = asyncio.ensure_future(anext(texts))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    assert asyncio.run(main()) == []


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")
def test_the_kernel_closes_connections_whose_client_does_not_read() -> None:
    with server._bound_socket(RunConfig.model_validate({"serve": {"port": 0}})) as listener:
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


@pytest.mark.parametrize("kind", ["form", "json"])
def test_an_aborted_upload_is_499(serve: Make, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    served = serve()
    content_type, body = form({"model": "fake"}, wav(voice(1)))
    path = "/v1/audio/transcriptions"
    if kind == "json":
        content_type, path = "application/json", "/v1/chat/completions"
        body = json.dumps({"a": base64.b64encode(bytes(1000)).decode()}).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with caplog.at_level(logging.INFO):
        with socket.create_connection(("127.0.0.1", served.port), 20) as client:
            client.sendall(head.encode() + body[: len(body) // 2])
            until(lambda: served.application.active == 1)
        until(lambda: access_log(caplog))
    assert statuses(caplog) == [499] and served.application.active == 0
    assert not errors(caplog)


def test_a_large_event_is_sent_in_chunks() -> None:
    """The send timeout applies to each chunk, so that a slow reader is not taken for one that has stopped."""
    sent: list[bytes] = []

    async def events() -> AsyncGenerator[bytes]:
        yield b"x" * 150_000

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    asyncio.run(EventStream(events(), AsyncExitStack())({"type": "http"}, never_receive, send))
    assert [len(chunk) for chunk in sent if chunk] == [65_536, 65_536, 18_928]
