"""One HTTP request and its response: security headers, a send timeout, and the line in the access log."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from datetime import UTC, datetime

from starlette.types import Message, Receive, Scope, Send

from pipelines.serving.web.errors import CLIENT_CLOSED_REQUEST, Problem

# Paths that need no API key: the page and basic facts about the server. Everything else needs one, including
# whatever is added later.
PUBLIC_PATHS = frozenset(
    {"", "/", "/docs", "/favicon.ico", "/health", "/healthz", "/readyz", "/openapi.json"}
)
_PUBLIC_FOLDER = "/page/"
SEND_TIMEOUT = 60.0  # seconds for a client to read a message of the response
# Seconds for which the rest of a refused body is read and discarded, so that the client gets to read the
# response.
_DISCARD_SECONDS = 5.0
_CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; manifest-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_SECURITY_HEADERS = {
    "content-security-policy": _CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
}

access_log = logging.getLogger("scriptorium.access")


class ClientNotReading(OSError):
    """The client does not read its response. Starlette treats it, like any OSError, as a disconnect."""


class Exchange:
    """One request and its response."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, log_text: bool) -> None:
        self.scope = scope
        self.caller: str | None = None
        self.id = uuid.uuid4().hex
        self._receive, self._send, self._log_text = receive, send, log_text
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._status: int | None = None
        self._received_bytes = self._sent_bytes = 0
        self._complete, self._timed_out = not _has_body(scope), False
        scope["request_id"] = self.id
        scope["log_fields"] = {}  # added to the access log by the application

    def counting(self, receive: Receive) -> Receive:
        """Wrap `receive` so that it counts the bytes of the body."""

        async def counting_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                self._received_bytes += len(message.get("body", b""))
                self._complete = self._complete or not message.get("more_body", False)
            return message

        return counting_receive

    async def send(self, message: Message) -> None:
        """Send a message of the response, with the security headers."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self._status = message["status"]
            given = {name.lower() for name, _ in message.get("headers", [])}
            added = {"x-request-id": self.id, **_SECURITY_HEADERS}
            if not is_public_path(self.scope):
                added["cache-control"] = "no-store"
            if not self._complete:  # the rest of the body blocks the connection for another request
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
            if self.scope["method"] == "HEAD":
                message = {**message, "body": b""}
            self._sent_bytes += len(message.get("body", b""))
            if not self._complete and not message.get("more_body", False):
                await self._send_in_time({**message, "more_body": True})
                await _discard_body(self._receive)
                message = {"type": kind, "body": b""}
        await self._send_in_time(message)

    async def _send_in_time(self, message: Message) -> None:
        """Send with a timeout: a client that never reads would hold its resources for ever.

        Raises:
            ClientNotReading: the client did not read this message or an earlier one.
        """
        if not self._timed_out:
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await self._send(message)
                return
            except TimeoutError:
                self._timed_out, self._status = True, CLIENT_CLOSED_REQUEST
        raise ClientNotReading(f"the client has not read its response for {SEND_TIMEOUT:g} s")

    async def refuse(self, problem: Problem) -> None:
        """Send an error response, unless a response has begun."""
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

    def write_log(self) -> None:
        """Write the access log line as JSON: without audio, and with text only if `serve.log_text` is set."""
        fields = dict(self.scope["log_fields"])
        text = fields.pop("text", None)
        line = {
            "time": self._started.isoformat(timespec="milliseconds"),
            "id": self.id,
            "client": (self.scope.get("client") or (None,))[0],
            "key": self.caller,
            "method": self.scope.get("method", "WEBSOCKET"),
            "path": self.scope["path"][:300],
            "status": self._status,
            "seconds": round(time.monotonic() - self._clock, 4),
            "bytes_in": self._received_bytes,
            "bytes_out": self._sent_bytes,
            **fields,
            **({"text": text} if self._log_text and text is not None else {}),
        }
        access_log.info(json.dumps(line, ensure_ascii=False))


def is_public_path(scope: Scope) -> bool:
    """Whether a request needs no key. The route excludes `root_path`, a prefix that a proxy may add."""
    route = route_path(scope)
    return route in PUBLIC_PATHS or route.startswith(_PUBLIC_FOLDER)


def route_path(scope: Scope) -> str:
    """The path of a request without `root_path`."""
    path: str = scope["path"]
    relative = path.removeprefix(scope.get("root_path", ""))
    return relative if relative[:1] in ("", "/") else path


def _has_body(scope: Scope) -> bool:
    headers = {name.lower(): value for name, value in scope["headers"]}
    return scope["type"] == "http" and (
        b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    )


async def _discard_body(receive: Receive) -> None:
    """Read and discard the rest of a body, for at most `_DISCARD_SECONDS`."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
