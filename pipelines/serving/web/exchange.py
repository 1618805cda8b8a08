"""One request on its way through the door: what its answer says about safety, how long its client may leave that unread, its line of log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from datetime import UTC, datetime

from starlette.types import Message, Receive, Scope, Send

from pipelines.serving.web.errors import GONE, Problem

# What wants no key: the page and a few words about the server. Everything else does, also what is added later.
OPEN = frozenset({"", "/", "/docs", "/healthz", "/readyz", "/openapi.json"})
_OPEN_FOLDER = "/page/"
SEND_SECONDS = 60.0  # that a client may leave unread what is sent to him
_LINGER = 5.0  # seconds in which the rest of a refused body is read and dropped, so that the client gets to read the answer
_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; connect-src 'self'; worker-src 'self'; "
    "manifest-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_SAFETY = {
    "content-security-policy": _CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}

access = logging.getLogger("scriptorium.access")


class Unread(OSError):
    """A client does not read what is sent to him. To Starlette it means, as every OSError does, that he has left."""


class Exchange:
    """One request on its way."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, log_text: bool) -> None:
        self.scope, self.caller = scope, None  # type: Scope, str | None
        self.id = uuid.uuid4().hex
        self._receive, self._send, self._log_text = receive, send, log_text
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._status: int | None = None
        self._received = self._sent = 0
        self._complete, self._unread = not _has_body(scope), False
        scope["request_id"] = self.id
        scope["facts"] = {}  # what the application has to say for the log

    def watched(self, receive: Receive) -> Receive:
        """`receive` that counts."""

        async def counting() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self._received += len(message.get("body", b""))
                self._complete = self._complete or not message.get("more_body", False)
            return message

        return counting

    async def send(self, message: Message) -> None:
        """Send with our headers."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self._status = message["status"]
            given = {name.lower() for name, _ in message.get("headers", [])}
            added = {"x-request-id": self.id, **_SAFETY}
            if not is_open(self.scope):
                added["cache-control"] = "no-store"
            if not self._complete:  # the rest of the body stands in the way of another request
                added["connection"] = "close"
            extra = [
                (name.encode(), value.encode()) for name, value in added.items() if name.encode() not in given
            ]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        elif kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.close" and self._status is None:
            self._status = 403
        elif kind == "http.response.body":
            self._sent += len(message.get("body", b""))
            if not self._complete and not message.get("more_body", False):
                await self._out({**message, "more_body": True})
                await _dropped(self._receive)
                message = {"type": kind, "body": b""}
        await self._out(message)

    async def _out(self, message: Message) -> None:
        """Send to a client who may not read: without an end to waiting, what he holds would never be free again.

        Raises:
            Unread: he did not, now or before.
        """
        if not self._unread:
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    await self._send(message)
                return
            except TimeoutError:
                self._unread, self._status = True, GONE
        raise Unread(f"the client has left what was sent to him unread for {SEND_SECONDS:g} s")

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, if nothing has been answered yet."""
        if self._status is not None:
            return
        body = json.dumps(problem.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        start, kind = {"status": problem.status, "headers": pairs}, "http.response"
        with contextlib.suppress(OSError):
            if self.scope["type"] == "websocket":
                if "websocket.http.response" not in self.scope.get("extensions", {}):
                    await self.send(
                        {"type": "websocket.close", "code": 1008, "reason": problem.message[:120]}
                    )
                    return
                kind = "websocket.http.response"
            await self.send({"type": f"{kind}.start", **start})
            await self.send({"type": f"{kind}.body", "body": body})

    def write(self) -> None:
        """The line of the access log: JSON; neither text nor audio, unless asked for."""
        facts = dict(self.scope["facts"])
        text = facts.pop("text", None)
        line = {
            "time": self._started.isoformat(timespec="milliseconds"),
            "id": self.id,
            "client": (self.scope.get("client") or (None,))[0],
            "key": self.caller,
            "method": self.scope.get("method", "WEBSOCKET"),
            "path": self.scope["path"][:300],
            "status": self._status,
            "seconds": round(time.monotonic() - self._clock, 4),
            "bytes_in": self._received,
            "bytes_out": self._sent,
            **facts,
            **({"text": text} if self._log_text and text is not None else {}),
        }
        access.info(json.dumps(line, ensure_ascii=False))


def is_open(scope: Scope) -> bool:
    """Whether a request wants no key. Its route is what stands behind `root_path`, under which a proxy may have put the whole server."""
    path = scope["path"]
    behind = path.removeprefix(scope.get("root_path", ""))
    route = behind if behind[:1] in ("", "/") else path
    return route in OPEN or route.startswith(_OPEN_FOLDER)


def _has_body(scope: Scope) -> bool:
    names = {name.lower(): value for name, value in scope["headers"]}
    return scope["type"] == "http" and (
        b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0"
    )


async def _dropped(receive: Receive) -> None:
    """Read the rest of a body and forget it, for a while."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_LINGER):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
