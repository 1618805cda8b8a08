"""`scriptorium serve`: starts Ray and the models, listens, and ends without cutting anybody off.

The web server is our own process and not Ray Serve's proxy, which stands in the way here: it reads bodies into memory without a bound before the
application may refuse them, answers overload and time-outs in its own words, carries every WebSocket message through two actor calls, and cuts
connections when it is told to end. The models are Ray Serve deployments: replicas, autoscaling and replacing what died are Ray Serve's work.
Behind `serve deploy` (see `application.py`) its proxy is used all the same, with these limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from actors import backends
from actors.errors import FatalError, UsageError
from pipelines.cluster import session
from pipelines.cluster.placement import pools
from pipelines.config import RunConfig
from pipelines.serving.app import Application
from pipelines.serving.inference.deployments import Aligner, Recogniser, deployment
from pipelines.serving.inference.model_client import Models
from pipelines.serving.realtime.session import MAX_APPEND
from pipelines.serving.web import exchange, middleware
from pipelines.serving.web.errors import Problem

HEADER_SECONDS = 30.0  # that the head of a request may take, also of the first one
PING_SECONDS = 20.0  # between questions whether the client of a stream is still there
_NAMES = ("scriptorium-recogniser", "scriptorium-aligner")  # of the models, each with the server's own ending
_LAST_CALL = 3.0  # seconds for connections to close when all work is done
_LOOK = 0.1  # seconds between looks at what is in work

log = logging.getLogger(__name__)


def serve(config: RunConfig) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code.

    Raises:
        UsageError: settings, address or models are wrong. Nothing has been started then.
    """
    try:
        middleware.check_address(config.serve)
        backends.check(config.asr, config.aligner, here=config.cluster.address == "local")
    except (Problem, FatalError) as error:
        raise UsageError(error.message) from None
    with _bound(config) as listener, _logged(), session.started(config.cluster), deployed(config) as models:
        asyncio.run(_listen(Application(config, models), config, listener))
    return 0


@contextmanager
def deployed(config: RunConfig) -> Iterator[Callable[[], Models]]:
    """The models as Ray Serve deployments on the cluster that was joined, for the life of a `with` block; what makes the way to them.

    Raises:
        UsageError: the cluster has not enough of what they need.
    """
    from ray import serve

    bound = applications(config, pools(config, config.asr.pool, config.aligner.pool, session.nodes()))
    _quiet()
    serve.start(proxy_location="Disabled")
    started: list[str] = []
    try:
        handles: list[Any] = []
        own = uuid.uuid4().hex[:8]  # another server may be on the same cluster, with models of its own
        for name, application in zip((f"{name}-{own}" for name in _NAMES), bound, strict=False):
            started.append(name)
            handles.append(serve.run(application, name=name, route_prefix=None))
        yield lambda: Models(config, handles[0], handles[1] if len(handles) > 1 else None)
    finally:
        for name in started:
            with contextlib.suppress(Exception):
                serve.delete(name)
        if config.cluster.address == "local":
            serve.shutdown()


def applications(config: RunConfig, wanted: Mapping[str, dict[str, Any]]) -> list[Any]:
    """The recogniser, and the aligner where there is one, as bound deployments.

    Args:
        config: the settings.
        wanted: from `pipelines.cluster.placement`, by stage.
    """
    parts: list[tuple[str, type, Any]] = [("recogniser", Recogniser, config.asr)]
    parts += [("aligner", Aligner, config.aligner)] if config.aligner.backend != "none" else []
    bound = []
    for stage, actor, section in parts:
        pool = wanted[stage]
        replicas = (min(config.serve.min_replicas, pool["size"]), pool["size"])
        section = session.with_share(section, pool["num_gpus"], (os.cpu_count() or 1) // len(parts))
        bound.append(deployment(actor, section, replicas, pool))
    return bound


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See `uvicorn.Server`."""
        yield


class _Patient(H11Protocol):
    """HTTP as uvicorn speaks it, but a request whose head does not come is not waited for without end."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def web_server(application: Application) -> uvicorn.Server:
    """What speaks HTTP and WebSocket for an application."""
    settings = uvicorn.Config(
        application.asgi,
        http=_Patient,
        ws="websockets-sansio",
        ws_max_size=MAX_APPEND + (64 << 10),
        ws_ping_interval=PING_SECONDS,
        ws_ping_timeout=None,  # where a client is not read, because the models are behind, his pong waits behind his audio
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=30,
        timeout_graceful_shutdown=round(_LAST_CALL),
    )
    return _Server(settings)


async def _listen(application: Application, config: RunConfig, listener: socket.socket) -> None:
    server = web_server(application)
    asked = asyncio.Event()
    signals = 0

    def stop() -> None:
        nonlocal signals
        signals += 1
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(_LOOK)
    if server.started:
        _say_listening(listener)
    waiting = asyncio.create_task(asked.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    application.begin_to_end()
    deadline = time.monotonic() + config.serve.drain_timeout
    print(
        f"scriptorium: ending; {application.busy} requests and streams are in work",
        file=sys.stderr,
        flush=True,
    )
    while application.busy and time.monotonic() < deadline and signals < 2 and not serving.done():
        await asyncio.sleep(_LOOK)
    server.should_exit = True
    server.force_exit = signals > 1
    await serving


def _say_listening(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    exchange.access.info(
        json.dumps(
            {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": "listening", "url": url}
        )
    )
    print(
        f"scriptorium: listening on {url}, the API is described at {url}/docs; Ctrl-C ends it",
        file=sys.stderr,
        flush=True,
    )


@contextmanager
def _bound(config: RunConfig) -> Iterator[socket.socket]:
    """A socket on the address of the settings, taken before anything is started. Nobody is let in before `listen`."""
    host, port = config.serve.host, config.serve.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(
            socket, "TCP_USER_TIMEOUT"
        ):  # Linux: the kernel ends connections whose client reads nothing, with what waits for him
            listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(exchange.SEND_SECONDS * 1000)
            )
        listener.bind((host, port))
    except OSError as error:
        raise UsageError(
            f"cannot listen on serve.host={host}, serve.port={port}: {error.strerror or error}"
        ) from None
    with listener:
        yield listener


@contextmanager
def _logged() -> Iterator[None]:
    """The access log to standard output, each line as it is; all else to standard error, also what Ray would print between those lines."""
    lines = logging.StreamHandler(sys.stdout)
    lines.setFormatter(logging.Formatter("%(message)s"))
    exchange.access.addHandler(lines)
    exchange.access.setLevel(logging.INFO)
    exchange.access.propagate = False
    others = logging.StreamHandler(sys.stderr)
    others.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    others.setLevel(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("pipelines", "actors", "uvicorn")]
    for logger in loggers:
        logger.addHandler(others)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        exchange.access.removeHandler(lines)
        for logger in loggers:
            logger.removeHandler(others)


def _quiet() -> None:
    """Ray Serve's own log lines off the terminal, where ours are."""
    for name in ("ray.serve", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
