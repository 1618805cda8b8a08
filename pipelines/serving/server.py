"""`scriptorium serve`: starts Ray and the models, listens, and shuts down without dropping requests.

The web server runs in this process instead of Ray Serve's proxy. The proxy reads bodies into memory without a
limit before the application can refuse them, returns its own error messages for overload and timeouts, sends
every WebSocket message through two actor calls, and drops connections on shutdown. The models are Ray Serve
deployments, so Ray Serve handles replicas, autoscaling and restarts after crashes. `serve deploy` (see
`ray_serve_app.py`) does use the proxy, with these limitations.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import uvicorn

from actors import backends
from actors.errors import FatalError, UsageError
from pipelines.cluster import session
from pipelines.cluster.pools import PoolResources, decide_pools
from pipelines.config import RunConfig
from pipelines.output import calibrations
from pipelines.serving.app import Application
from pipelines.serving.inference.deployments import Aligner, Recogniser, deployment
from pipelines.serving.inference.model_client import ModelClient
from pipelines.serving.realtime.session import MAX_APPEND
from pipelines.serving.web import middleware
from pipelines.serving.web.errors import Problem
from pipelines.serving.web.exchange import SEND_TIMEOUT, access_log
from pipelines.serving.web.http_server import http_server
from pipelines.supervision import shutdown

# Names of the Ray Serve applications; a suffix unique to this server is added.
_APPLICATION_NAMES = ("scriptorium-recogniser", "scriptorium-aligner")
_POLL_SECONDS = 0.1  # between checks of the server's state
_EVENT_BYTES = 64 << 10  # of a realtime event, besides its audio

log = logging.getLogger(__name__)


def serve(config: RunConfig) -> int:
    """Serve until SIGTERM or Ctrl-C.

    Returns:
        The exit code.

    Raises:
        UsageError: settings, address or models are wrong. Nothing has been started then.
    """
    try:
        middleware.check_address(config.serve)
        backends.check(config.asr, config.aligner, here=config.cluster.address == "local")
        calibrations.check(config.asr)
    except (Problem, FatalError) as error:
        raise UsageError(error.message) from None
    with (
        contextlib.ExitStack() as until_stopped,
        _bound_socket(config) as listener,
        _logging(),
        session.running_ray(config.cluster),
        deployed(config) as make_client,
    ):
        asyncio.run(_listen(Application(config, make_client), config, listener, until_stopped))
    return 0


@contextmanager
def deployed(config: RunConfig) -> Iterator[Callable[[], ModelClient]]:
    """Deploy the models with Ray Serve on the connected cluster for the life of a `with` block.

    Yields:
        A function that makes a client of the models.

    Raises:
        UsageError: the cluster lacks resources for the models.
    """
    from ray import serve

    bound = applications(
        config, decide_pools(config, config.asr.pool, config.aligner.pool, session.living_nodes())
    )
    _silence_ray_serve_logs()
    serve.start(proxy_location="Disabled")
    started: list[str] = []
    try:
        handles: list[Any] = []
        suffix = uuid.uuid4().hex[:8]  # another server may have its own models on the same cluster
        for prefix, application in zip(_APPLICATION_NAMES, bound, strict=False):
            name = f"{prefix}-{suffix}"
            started.append(name)
            handles.append(serve.run(application, name=name, route_prefix=None))
        yield lambda: ModelClient(config, handles[0], handles[1] if len(handles) > 1 else None)
    finally:
        with shutdown.uninterrupted():
            for name in started:
                with contextlib.suppress(Exception):
                    serve.delete(name)
            if config.cluster.address == "local":
                serve.shutdown()


def applications(config: RunConfig, wanted: Mapping[str, PoolResources]) -> list[Any]:
    """The recogniser, and the aligner if there is one, as bound deployments.

    Args:
        config: the settings.
        wanted: the pool of each stage, from `pipelines.cluster.pools`.
    """
    models: list[tuple[str, type, Any]] = [("recogniser", Recogniser, config.asr)]
    models += [("aligner", Aligner, config.aligner)] if config.aligner.backend != "none" else []
    bound = []
    for stage, actor, section in models:
        pool = wanted[stage]
        replicas = (min(config.serve.min_replicas, pool.size), pool.size)
        section = session.with_share(section, pool.num_gpus, (os.cpu_count() or 1) // len(models))
        # A batch with open streams must not take much longer than intended.
        limit = (4 * config.serve.call_seconds,) if stage == "recogniser" else ()
        bound.append(deployment(actor, section, replicas, pool, config.guards, config.repair, *limit))
    return bound


def web_server(application: Application) -> uvicorn.Server:
    """A server for HTTP and WebSocket that runs an application."""
    return http_server(application.asgi, MAX_APPEND + _EVENT_BYTES)


async def _listen(
    application: Application,
    config: RunConfig,
    listener: socket.socket,
    until_stopped: contextlib.ExitStack,
) -> None:
    """Serve until a signal arrives, then finish running requests for up to `serve.drain_timeout` seconds.

    A second signal drops the requests. However many arrive, they are handled until `until_stopped` ends,
    which is when Ray has stopped: the server has been asked to end, and ends without an error.
    """
    server = web_server(application)
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = 0

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop_requested.set)

    # Not the loop's own handlers: it would remove them before the models are stopped.
    until_stopped.enter_context(shutdown.handled_by(stop))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(_POLL_SECONDS)
    if server.started:
        _report_listening(listener)
    stopping = asyncio.create_task(stop_requested.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    application.start_draining()
    deadline = time.monotonic() + config.serve.drain_timeout
    _print(f"shutting down; requests and streams still being served: {application.active}")
    while application.active and time.monotonic() < deadline and signals < 2 and not serving.done():
        await asyncio.sleep(_POLL_SECONDS)
    if application.active and not serving.done():
        _print(f"stopping at once; requests and streams that are dropped: {application.active}")
    server.should_exit = True
    server.force_exit = signals > 1
    await serving


def _report_listening(listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    access_log.info(json.dumps({"time": now, "event": "listening", "url": url}))
    _print(f"listening on {url}; API description: {url}/docs; press Ctrl-C to stop")


def _print(message: str) -> None:
    print(f"scriptorium: {message}", file=sys.stderr, flush=True)


@contextmanager
def _bound_socket(config: RunConfig) -> Iterator[socket.socket]:
    """A socket bound to the configured address before anything is started. It accepts no connections yet."""
    host, port = config.serve.host, config.serve.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Linux: the kernel closes connections whose client does not read, and drops the data queued for them.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(SEND_TIMEOUT * 1000))
        listener.bind((host, port))
    except OSError as error:
        raise UsageError(
            f"cannot listen on serve.host={host}, serve.port={port}: {error.strerror or error}"
        ) from None
    with listener:
        yield listener


@contextmanager
def _logging() -> Iterator[None]:
    """Write the access log to standard output, unformatted, and everything else to standard error.

    Output that Ray prints goes to standard error as well, so that it does not mix with the access log.
    """
    access_handler = logging.StreamHandler(sys.stdout)
    access_handler.setFormatter(logging.Formatter("%(message)s"))
    access_log.addHandler(access_handler)
    access_log.setLevel(logging.INFO)
    access_log.propagate = False
    error_handler = logging.StreamHandler(sys.stderr)
    error_handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    error_handler.setLevel(logging.WARNING)
    loggers = [logging.getLogger(name) for name in ("pipelines", "actors", "uvicorn")]
    for logger in loggers:
        logger.addHandler(error_handler)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        access_log.removeHandler(access_handler)
        for logger in loggers:
            logger.removeHandler(error_handler)


def _silence_ray_serve_logs() -> None:
    """Keep Ray Serve's own log lines off the terminal."""
    for name in ("ray.serve", "ray._private"):
        logging.getLogger(name).setLevel(logging.ERROR)
