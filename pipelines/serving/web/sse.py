"""Server-sent events to a client who may leave at any moment."""

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

KEEP_ALIVE = b": still at work\n\n"  # a comment: it tells proxies that somebody is still there
KEEP_ALIVE_SECONDS = 15.0
PIECE = 1 << 16  # bytes of one message
DONE = b"data: [DONE]\n\n"


def event(value: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


class EventStream(Response):
    """A response made of events. What it holds is let go when it ends, however it does.

    Args:
        events: closed when the client leaves. A Problem that it raises becomes the last event, for the status is sent by then.
        held: what to let go.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes], held: AsyncExitStack) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._events, self._held = events, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        async with self._held, aclosing(self._events):
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            pump, gone = asyncio.create_task(self._pump(send)), asyncio.create_task(_gone(receive))
            try:
                await asyncio.wait({pump, gone}, return_when=asyncio.FIRST_COMPLETED)
                if pump.done():
                    pump.result()
            finally:
                for one in (pump, gone):
                    one.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await one

    async def _pump(self, send: Send) -> None:
        try:
            async for chunk in self._events:
                # In pieces: who reads slowly is not one who does not read, and the limit for that is one of each message.
                for first in range(0, len(chunk), PIECE):
                    await send(
                        {
                            "type": "http.response.body",
                            "body": chunk[first : first + PIECE],
                            "more_body": True,
                        }
                    )
        except Problem as problem:
            await send({"type": "http.response.body", "body": event(problem.body), "more_body": True})
        except Exception as error:
            ours = Problem(500, f"an error of ours: {type(error).__name__}", "internal_error")
            await send({"type": "http.response.body", "body": event(ours.body), "more_body": True})
            raise
        finally:
            await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
