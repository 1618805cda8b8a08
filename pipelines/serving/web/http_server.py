"""uvicorn with a timeout for request headers, and with signals left to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_TIMEOUT = 30.0  # seconds for the headers of a request, also of the first one
PING_INTERVAL = 20.0  # seconds between WebSocket pings
CLOSE_TIMEOUT = 3.0  # seconds for connections to close when all requests are finished


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`."""
        yield


class _HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which closes connections whose request headers do not arrive in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._update_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_timer()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def _update_timer(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._cancel_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADER_TIMEOUT, self.transport.close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def http_server(app: ASGIApp, max_message_bytes: int) -> uvicorn.Server:
    """A server for HTTP and WebSocket.

    Args:
        app: the ASGI application.
        max_message_bytes: largest WebSocket message.
    """
    settings = uvicorn.Config(
        app,
        http=_HeaderTimeoutProtocol,
        ws="websockets-sansio",
        ws_max_size=max_message_bytes,
        ws_ping_interval=PING_INTERVAL,
        # The server stops reading a client when the models are behind; its pong then waits behind its audio.
        ws_ping_timeout=None,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(CLOSE_TIMEOUT),
    )
    return _Server(settings)
