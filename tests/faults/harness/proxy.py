"""An S3 server that misbehaves: a loopback HTTP proxy in front of a good server that breaks requests on a
seeded schedule.

Whether and how a request is broken follows from the seed, its method, its key (without random names) and the
number of earlier requests for that pair; neither the clock nor thread order matters.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

ANSWERS = {
    "error_500": (500, "InternalError", "We encountered an internal error. Please try again."),
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "too_many": (429, "TooManyRequests", "Too many requests."),
    "denied": (403, "AccessDenied", "Access Denied"),
}
KINDS = ("error_500", "slow_down", "too_many", "reset", "truncated", "stall", "lost")
"""Ways to break a request.

reset: the connection breaks, for a GET in the middle of the body. truncated: it closes normally before the
body is complete. short: the server declares and sends less than the object has. stall: no response for
`stall` seconds, then the connection breaks. lost: the server does the work, but its response never arrives.
The others are S3's own error responses.
"""
# Parts of a key that each run names anew.
_RANDOM = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{8}T\d{6}-[0-9a-f]{6}")
# Where a response has no body, the connection breaks instead.
BODY_ONLY = ("truncated", "short")
# Requests that are handled at the same time; others wait.
AT_ONCE = 64


class Rule(NamedTuple):
    """What happens to requests whose `METHOD bucket/key?query` matches a pattern.

    `rate` is the share of requests that is broken, `kinds` the ways. With a `streak`, `rate` is the share of
    keys whose first `streak` requests are all broken in the same way; later requests pass.
    """

    rate: float
    kinds: tuple[str, ...] = KINDS
    streak: int = 0


class Proxy:
    """A misbehaving server: `with Proxy(upstream, seed, rate) as proxy:`, then use `proxy.url`.

    Args:
        upstream: URL of the good server, `http://127.0.0.1:5000`.
        seed: of the schedule.
        rate: share of requests that are broken where no rule applies.
        kinds: the ways to break them.
        rules: by regular expression, searched in `METHOD bucket/key?query`; the first match counts.
        stall: seconds that a stalled request waits.
        events: called once, before the first request that matches the pattern is answered.
    """

    def __init__(
        self,
        upstream: str,
        seed: int,
        rate: float = 0.0,
        kinds: tuple[str, ...] = KINDS,
        rules: Mapping[str, Rule] | None = None,
        stall: float = 5.0,
        events: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        self.host, self.port = urlsplit(upstream).hostname, urlsplit(upstream).port
        self.seed, self.default, self.rules, self.stall = seed, Rule(rate, kinds), dict(rules or {}), stall
        self.events = dict(events or {})
        # Requests by method.
        self.requests: Counter[str] = Counter()
        # Broken requests by kind.
        self.injected: Counter[str] = Counter()
        # Broken requests by `METHOD bucket/key?query`.
        self.places: Counter[str] = Counter()
        # All requests by the same key, without random names.
        self.asked: Counter[str] = Counter()
        self.lock, self.slots = threading.Lock(), threading.BoundedSemaphore(AT_ONCE)
        proxy = self

        class Bound(_Handler):
            pass

        Bound.proxy = proxy
        self._server = _Server(("127.0.0.1", 0), Bound)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """The URL for `AWS_ENDPOINT_URL`."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fate(self, method: str, target: str) -> str:
        """How this request is broken; empty if it passes. Counts the request."""
        place = f"{method} {unquote(target).lstrip('/')}"
        rule = next((rule for pattern, rule in self.rules.items() if re.search(pattern, place)), self.default)
        with self.lock:
            for pattern in [pattern for pattern in self.events if re.search(pattern, place)]:
                self.events.pop(pattern)()
            same = _RANDOM.sub("*", place)
            number = self.asked[same]
            self.asked[same] += 1
            self.requests[method] += 1
            if rule.streak and number >= rule.streak:
                return ""
            number = 0 if rule.streak else number
            draw = hashlib.sha256(f"{self.seed}\0{same}\0{number}".encode()).digest()
            if int.from_bytes(draw[:4]) / 2**32 >= rule.rate:
                return ""
            kind = rule.kinds[int.from_bytes(draw[4:8]) % len(rule.kinds)]
            if kind in BODY_ONLY and method != "GET":
                kind = "reset"
            self.injected[kind] += 1
            self.places[place] += 1
        return kind

    def summary(self) -> dict[str, Any]:
        """The requests and the broken ones, for the table of results."""
        return {
            "requests": self.requests.total(),
            "injected": self.injected.total(),
            **dict(sorted(self.injected.items())),
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Seconds that a client's connection may be idle.
    timeout = 60
    proxy: Proxy
    _upstream: http.client.HTTPConnection | None = None

    def log_message(self, *_: Any) -> None:
        pass

    def do_any(self) -> None:
        with self.proxy.slots:
            self._serve(self._body())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()

    def _serve(self, body: bytes) -> None:
        kind = self.proxy.fate(self.command, self.path)
        if kind in ANSWERS:
            status, code, message = ANSWERS[kind]
            page = (
                '<?xml version="1.0" encoding="UTF-8"?>'
                f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            )
            self._answer(status, {"Content-Type": "application/xml"}, page.encode())
        elif kind == "stall":
            time.sleep(self.proxy.stall)
            self._break()
        elif kind == "reset" and self.command != "GET":
            self._break()
        else:
            status, headers, data = self._ask(body)
            if kind == "lost" or (kind and len(data) < 2):
                self._break()
            elif kind == "short":
                self._answer(status, headers, data[: len(data) // 2])
            elif kind:
                self._answer(status, headers, data, sent=len(data) // 2)
                self._break(orderly=kind == "truncated")
            else:
                self._answer(status, headers, data)

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("connection", "transfer-encoding", "expect")
        }
        if body or self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        # The server may have closed an idle connection.
        for final in (False, True):
            if self._upstream is None:
                self._upstream = http.client.HTTPConnection(
                    self.proxy.host or "", self.proxy.port, timeout=60
                )
            try:
                self._upstream.request(self.command, self.path, body or None, headers)
                answer = self._upstream.getresponse()
                data = answer.read()
                break
            except (http.client.HTTPException, OSError):
                self._upstream.close()
                self._upstream = None
                if final:
                    raise
        headers = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("connection", "transfer-encoding", "date", "server")
        }
        return answer.status, headers, data

    def _answer(self, status: int, headers: dict[str, str], data: bytes, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() != "content-length":
                self.send_header(name, value)
        length = next((value for name, value in headers.items() if name.lower() == "content-length"), None)
        # Headers of the body that a HEAD response describes but does not send.
        self.send_header(
            "Content-Length", length if self.command == "HEAD" and length is not None else str(len(data))
        )
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:sent])
        self.wfile.flush()

    def _break(self, orderly: bool = False) -> None:
        """End the connection: with a reset, or as if the response were complete."""
        self.close_connection = True
        if not orderly:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            if orderly:
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()
        except OSError:
            return

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        # Trailers.
        while self.rfile.readline().strip():
            continue
        return b"".join(pieces)
