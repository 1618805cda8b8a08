"""DashScope's real-time API (`qwen3-asr-flash-realtime`) as the recogniser.

It is selected by `asr.remote.endpoint=dashscope-realtime`. Each segment has a WebSocket session of its own.
Its audio is sent as fast as the service takes it and committed as one utterance, of 60 s at most.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from actors.backends.remote import dashscope_protocol, http
from actors.backends.remote.base import RemoteASR
from actors.backends.remote.http import Response
from actors.backends.remote.retry_policy import Call, TransientError
from actors.errors import FatalError, RowError
from actors.records import Hypothesis, SegmentRequest

# Below INFO, the library logs headers, and the key with them.
_socket_log = logging.getLogger(f"{__name__}.socket")
_socket_log.setLevel(logging.INFO)

_COMPLETED = "conversation.item.input_audio_transcription.completed"
_FAILED = "conversation.item.input_audio_transcription.failed"
_CLOSE_TIMEOUT = 2.0  # seconds that the service may take to close


class _ConnectWithoutRedirects(connect):
    """A connection that follows no redirect: the server at the end of one must not get the key."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class DashScopeRealtime(RemoteASR):
    """A recogniser behind a WebSocket."""

    url_ending = "/api-ws/v1"

    def _attempts(self, request: SegmentRequest, call: Call) -> Callable[[int], Awaitable[Hypothesis]]:
        return lambda before: self._attempt(request, before)

    async def _attempt(self, request: SegmentRequest, before: int) -> Hypothesis:
        limit = dashscope_protocol.MAX_UTTERANCE_SECONDS
        if request.duration > limit:
            raise RowError(
                f"a segment of {request.duration:.1f} s is longer than the {limit:g} s of DashScope's "
                f"real-time API: set segmenter.max_duration={limit:g}",
                "model_failed",
            )
        self.total_usage.count_request(request.duration, repeated=before > 0)
        first, others = dashscope_protocol.session_events(request, compatible=self.config.compatible)
        texts: list[str] = []
        language = None
        async with self._session() as socket:
            await socket.send(json.dumps(first))
            while (event := await self._receive(socket, request)).get("type") != "session.finished":
                if event.get("type") == "session.updated":
                    await _send_all(socket, others)
                elif event.get("type") == _COMPLETED:
                    texts.append(str(event.get("transcript") or "").strip())
                    language = language or event.get("language")
        text = " ".join(filter(None, texts))
        return dashscope_protocol.hypothesis(text, language, request, compatible=self.config.compatible)

    async def _list_models(self) -> set[str]:
        async with self._session() as socket:
            while (await self._receive(socket, None)).get("type") != "session.created":
                pass
        return set()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[ClientConnection]:
        """An accepted connection; everything done with it may take as long as one request.

        Raises:
            TransientError: the service is absent, too busy, or too slow.
            FatalError: the service refuses us.
        """
        query = urlencode({"model": self.model})
        url = f"ws{self.remote.base_url.removeprefix('http')}/realtime?{query}"
        try:
            async with (
                asyncio.timeout(self.remote.timeout),
                _ConnectWithoutRedirects(
                    url,
                    additional_headers=self.server.authorization(),
                    open_timeout=None,
                    close_timeout=_CLOSE_TIMEOUT,
                    max_size=http.MAX_RESPONSE_BYTES,
                    logger=_socket_log,
                ) as socket,
            ):
                yield socket
        except TimeoutError:
            raise TransientError(f"no complete response within {self.remote.timeout:g} s") from None
        except InvalidStatus as error:
            response = error.response
            self.server.raise_for_error(
                Response(response.status_code, response.headers, response.body or b"")
            )
            raise TransientError(f"HTTP {response.status_code} where a WebSocket should be") from None
        except (OSError, InvalidHandshake, WebSocketException) as error:
            raise TransientError(self.server.without_key(f"{type(error).__name__}: {error}")) from None

    async def _receive(self, socket: ClientConnection, request: SegmentRequest | None) -> dict[str, Any]:
        """The next event of the service.

        Args:
            socket: the connection.
            request: the segment of this session; None: there is none.

        Raises:
            FatalError, RowError, TransientError: the event is an error; see `_raise_event_error`.
            TransientError: the connection was closed.
        """
        try:
            message = await socket.recv()
        except ConnectionClosed as closed:
            frame = closed.rcvd
            reason = (
                f"the session was closed with {frame.code} {frame.reason}" if frame else "the session was cut"
            )
            raise TransientError(self.server.without_key(reason)) from None
        data = message if isinstance(message, bytes) else message.encode()
        event = self.server.json(Response(200, {}, data))
        if event.get("type") in ("error", _FAILED):
            self._raise_event_error(event, request)
        return event

    def _raise_event_error(self, event: dict[str, Any], request: SegmentRequest | None) -> None:
        kind, code, text = dashscope_protocol.error_of(event)
        message = self.server.without_key(f"{code or kind}: {text}")
        if code.lower() in http.FATAL_CODES and not dashscope_protocol.is_busy(code):
            raise FatalError(self.server.fatal_message(Response(200, {}, b""), message))
        transient = dashscope_protocol.is_transient(code or kind)
        if request is None or kind != "invalid_request_error" or transient:
            raise TransientError(message, busy=dashscope_protocol.is_busy(code or kind))
        raise RowError(
            f"the recognition server refuses a segment of {request.duration:.1f} s: {message}", "model_failed"
        )


async def _send_all(socket: ClientConnection, events: Iterator[dict[str, Any]]) -> None:
    """Send events; where the service closes meanwhile, its last events can still be received."""
    try:
        for event in events:
            await socket.send(json.dumps(event))
    except ConnectionClosed:
        pass
