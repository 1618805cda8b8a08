"""What every request passes on its way in and out: who it is from, how much it may send, what the answer says about safety, one line of log.

Plain ASGI around the application, because a limit on a body must hold before anything reads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import time
import uuid
from datetime import UTC, datetime
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines.config import ServeConfig
from pipelines.serving import uploads
from pipelines.serving.keys import Keys, Rates
from pipelines.serving.problems import Problem, busy, wrong

# What wants no key: the page and a few words about the server. Everything else does, also what is added later.
OPEN = frozenset({"", "/", "/docs", "/healthz", "/readyz", "/openapi.json"})
_OPEN_FOLDER = "/page/"
_LINGER = 5.0  # seconds in which the rest of a refused body is read and dropped, so that the client gets to read the answer
_MIB = 1 << 20
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
log = logging.getLogger(__name__)


class Door:
    """ASGI middleware.

    Args:
        app: what lies behind.
        config: of the server.
        fronted: something else listens, and passes on what came to whatever name it has: `serve.host` says nothing about that.
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, fronted: bool = False) -> None:
        self._app, self._config = app, config
        self._keys, self._rates = Keys(config.api_keys), Rates(config.requests_per_minute)
        self._local = _is_loopback(config.host) and not fronted
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        visit = _Visit(scope, receive, send, self._config.log_text)
        try:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            self._check_origin(scope, headers)
            if not is_open(scope) and scope.get("method") != "OPTIONS":
                self._admit(scope, headers, visit)
            if scope["type"] == "http":
                most = round(self._config.max_upload * _MIB)
                if headers.get("content-type", "").lower().startswith("application/json"):
                    most = min(most, uploads.MAX_JSON)
                receive = visit.watched(uploads.limited(receive, headers, most, self._config.upload_timeout))
            await self._app(scope, receive, visit.send)
        except Problem as problem:
            await visit.refuse(problem)
        except asyncio.CancelledError:  # the server ends and did not wait any longer
            await visit.refuse(busy("the server has ended before this was done", 5, "draining"))
            raise
        except Exception as error:
            log.error("request %s failed", visit.id, exc_info=error)
            await visit.refuse(Problem(500, f"an error of ours; our log has it under {visit.id}", "internal_error"))
        finally:
            visit.write()

    def _check_origin(self, scope: Scope, headers: dict[str, str]) -> None:
        """Refuse names that are not ours (another site's name that was made to point here), and other sites' pages."""
        host = _name(headers.get("host", ""))
        allowed = self._config.allowed_hosts
        if (allowed and host not in allowed) or (not allowed and self._local and not _is_loopback(host)):
            raise Problem(421, f"{host[:100]!r} is not a name of this server; serve.allowed_hosts lists its names", "wrong_host")
        origin = headers.get("origin")
        if origin is None or origin in self._config.cors_origins or "*" in self._config.cors_origins:
            return
        if urlsplit(origin).netloc.lower() != headers.get("host", "").lower() and (
            scope["type"] == "websocket" or scope["method"] != "GET"
        ):
            raise Problem(
                403, f"pages of {origin[:100]!r} may not call this server; serve.cors_origins lists those that may", "wrong_origin"
            )

    def _admit(self, scope: Scope, headers: dict[str, str], visit: _Visit) -> None:
        caller = self._keys.caller(headers, scope.get("subprotocols") or ())
        visit.caller = caller
        self._rates.count(caller or (scope.get("client") or ("",))[0])
        if self.draining:
            raise busy("the server is about to end: ask again, another one will answer", 5, "draining")


class _Visit:
    """One request on its way."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, log_text: bool) -> None:
        self.scope, self.caller = scope, None  # type: Scope, str | None
        self.id = uuid.uuid4().hex
        self._receive, self._send, self._log_text = receive, send, log_text
        self._started, self._clock = datetime.now(UTC), time.monotonic()
        self._status: int | None = None
        self._received = self._sent = 0
        self._complete = not _has_body(scope)
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
            extra = [(name.encode(), value.encode()) for name, value in added.items() if name.encode() not in given]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        elif kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.close" and self._status is None:
            self._status = 403
        elif kind == "http.response.body":
            self._sent += len(message.get("body", b""))
            if not self._complete and not message.get("more_body", False):
                await self._send({**message, "more_body": True})
                await _dropped(self._receive)
                message = {"type": kind, "body": b""}
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem, if nothing has been answered yet."""
        if self._status is not None:
            return
        body = json.dumps(problem.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), **problem.headers}
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        if self.scope["type"] == "websocket":
            if "websocket.http.response" not in self.scope.get("extensions", {}):
                await self.send({"type": "websocket.close", "code": 1008, "reason": problem.message[:120]})
                return
            await self.send({"type": "websocket.http.response.start", "status": problem.status, "headers": pairs})
            await self.send({"type": "websocket.http.response.body", "body": body})
            return
        with contextlib.suppress(OSError):
            await self.send({"type": "http.response.start", "status": problem.status, "headers": pairs})
            await self.send({"type": "http.response.body", "body": body})

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
    return scope["type"] == "http" and (b"transfer-encoding" in names or names.get(b"content-length", b"0") != b"0")


async def _dropped(receive: Receive) -> None:
    """Read the rest of a body and forget it, for a while."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_LINGER):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(config: ServeConfig) -> None:
    """Refuse to listen beyond this machine without keys.

    Raises:
        Problem: 400, with what to set.
    """
    if not (_is_loopback(config.host) or config.api_keys or config.allow_anonymous):
        raise wrong(
            f"serve.host={config.host} lets other machines in, but there are no keys: set serve.api_keys, or serve.allow_anonymous=true "
            "where something in front asks who it is"
        )
