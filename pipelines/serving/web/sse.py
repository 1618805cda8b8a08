"""Server-sent events to clients that may disconnect at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pipelines.serving.web.errors import Problem

KEEP_ALIVE = b": still at work\n\n"  # a comment that keeps proxies from closing an idle connection
KEEP_ALIVE_SECONDS = 15.0
CHUNK_BYTES = 1 << 16  # of one ASGI message
DONE = b"data: [DONE]\n\n"


def event(value: dict[str, Any]) -> bytes:
    """Encode one server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


class EventStream(Response):
    """A streaming response of server-sent events.

    Args:
        events: the encoded events; closed when the client disconnects. A Problem that it raises becomes the
            last event, because the status has been sent by then.
        resources: closed when the response ends for whatever reason.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], resources: AsyncExitStack) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._events, self._resources = events, resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        async with self._resources, aclosing(self._events):
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            sending = asyncio.create_task(self._send_events(send))
            disconnected = asyncio.create_task(_wait_for_disconnect(receive))
            try:
                await asyncio.wait({sending, disconnected}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    sending.result()
            finally:
                for task in (sending, disconnected):
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await task

    async def _send_events(self, send: Send) -> None:
        async def send_body(body: bytes, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": body, "more_body": more})

        try:
            async for chunk in self._events:
                # The send timeout applies to each message: small messages tell a slow reader from one that
                # has stopped.
                for start in range(0, len(chunk), CHUNK_BYTES):
                    await send_body(chunk[start : start + CHUNK_BYTES])
        except Problem as problem:
            await send_body(event(problem.body))
        except Exception as error:
            internal = Problem(500, f"internal server error: {type(error).__name__}", "internal_error")
            await send_body(event(internal.body))
            raise
        finally:
            await send_body(b"", more=False)


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
