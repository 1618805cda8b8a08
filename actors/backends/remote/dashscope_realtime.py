"""DashScope's real-time API (`qwen3-asr-flash-realtime`) as the recogniser: `asr.remote.endpoint=dashscope-realtime`.

One WebSocket session for each segment: its audio is appended as fast as the service takes it and committed as one utterance, of 60 s at most.
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
from actors.backends.remote.base import MAX_ANSWER, Answer, RemoteASR
from actors.backends.remote.retry_policy import Call, TransientError
from actors.errors import FatalError, RowError
from actors.records import Hypothesis, SegmentRequest

_quiet = logging.getLogger(f"{__name__}.socket")
_quiet.setLevel(logging.INFO)  # below, the library writes headers down, and the key with them
_COMPLETED = "conversation.item.input_audio_transcription.completed"
_FAREWELL = 2.0  # seconds that a service may take to close
_FAILED = "conversation.item.input_audio_transcription.failed"


class _Direct(connect):
    """Goes nowhere else: whoever stands at the end of a redirect has no right to the key."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class DashScopeRealtime(RemoteASR):
    """A recogniser behind a WebSocket."""

    address_ends = "/api-ws/v1"

    def _attempts(self, request: SegmentRequest, call: Call) -> Callable[[int], Awaitable[Hypothesis]]:
        return lambda before: self._ask(request, before)

    async def _ask(self, request: SegmentRequest, before: int) -> Hypothesis:
        if request.duration > dashscope_protocol.LONGEST_UTTERANCE:
            limit = dashscope_protocol.LONGEST_UTTERANCE
            raise RowError(
                f"a segment of {request.duration:.1f} s is longer than the {limit:g} s of DashScope's real-time API: set "
                f"segmenter.max_duration={limit:g}",
                "model_failed",
            )
        self.cost.requests += 1
        self.cost.repeated += before > 0
        self.cost.audio_seconds += request.duration
        first, others = dashscope_protocol.conversation(request, compatible=self.config.compatible)
        texts: list[str] = []
        language = None
        async with self._session() as socket:
            await socket.send(json.dumps(first))
            while (event := await self._heard(socket, request)).get("type") != "session.finished":
                if event.get("type") == "session.updated":
                    await _send_all(socket, others)
                elif event.get("type") == _COMPLETED:
                    texts.append(str(event.get("transcript") or "").strip())
                    language = language or event.get("language")
        return dashscope_protocol.silent_or_said(
            " ".join(filter(None, texts)), language, request, compatible=self.config.compatible
        )

    async def _offered(self) -> set[str]:
        async with self._session() as socket:
            while (await self._heard(socket, None)).get("type") != "session.created":
                pass
        return set()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[ClientConnection]:
        """A connection that is let in; all that is done with it may take as long as one request.

        Raises:
            MayPass: nobody there, too busy, or too slow.
            FatalError: the service does not let us in.
        """
        url = (
            "ws" + self.remote.base_url.removeprefix("http") + "/realtime?" + urlencode({"model": self.model})
        )
        try:
            async with (
                asyncio.timeout(self.remote.timeout),
                _Direct(
                    url,
                    additional_headers=self._authorization(),
                    open_timeout=None,
                    close_timeout=_FAREWELL,
                    max_size=MAX_ANSWER,
                    logger=_quiet,
                ) as socket,
            ):
                yield socket
        except TimeoutError:
            raise TransientError(f"no complete answer within {self.remote.timeout:g} s") from None
        except InvalidStatus as error:
            response = error.response
            self._must_be_fine(Answer(response.status_code, response.headers, response.body or b""))
            raise TransientError(f"HTTP {response.status_code} where a WebSocket should be") from None
        except (OSError, InvalidHandshake, WebSocketException) as error:
            raise TransientError(self._safe(f"{type(error).__name__}: {error}")) from None

    async def _heard(self, socket: ClientConnection, request: SegmentRequest | None) -> dict[str, Any]:
        """The next event of the service, unless it says that something is wrong.

        Raises:
            FatalError, RowError, MayPass: by whose fault it is.
        """
        try:
            message = await socket.recv()
        except ConnectionClosed as closed:
            why = closed.rcvd
            raise TransientError(
                self._safe(
                    f"the session was closed with {why.code} {why.reason}" if why else "the session was cut"
                )
            ) from None
        event = self._parsed(Answer(200, {}, message if isinstance(message, bytes) else message.encode()))
        if event.get("type") in ("error", _FAILED):
            self._complain(event, request)
        return event

    def _complain(self, event: dict[str, Any], request: SegmentRequest | None) -> None:
        kind, code, message = dashscope_protocol.complaint(event)
        said = self._safe(f"{code or kind}: {message}")
        if code.lower() in http.FATAL_CODES and not dashscope_protocol.is_busy(code):
            raise FatalError(self._fatal(Answer(200, {}, b""), said))
        if request is None or kind != "invalid_request_error" or dashscope_protocol.may_pass(code or kind):
            raise TransientError(said, busy=dashscope_protocol.is_busy(code or kind))
        raise RowError(
            f"the recognition server refuses a segment of {request.duration:.1f} s: {said}", "model_failed"
        )


async def _send_all(socket: ClientConnection, events: Iterator[dict[str, Any]]) -> None:
    """Send events; where the service closes meanwhile, what it said before is still to be read."""
    try:
        for event in events:
            await socket.send(json.dumps(event))
    except ConnectionClosed:
        pass
